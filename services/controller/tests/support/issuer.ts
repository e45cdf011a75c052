// An issuer of access tokens for whomever a test needs.
import { createServer } from "node:http";
import { exportJWK, generateKeyPair, SignJWT } from "jose";

export interface Issuer extends Disposable {
  readonly url: string;
  /** An access token of this subject; `expires` is from now, as jose reads it. */
  token(subject: string, expires?: string): Promise<string>;
}

export async function startIssuer(): Promise<Issuer> {
  const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid: "one", alg: "ES256" };
  let url = "";
  const server = createServer((request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(request.url === "/keys" ? { keys: [jwk] } : { issuer: url, jwks_uri: `${url}/keys` }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  url = typeof address === "object" ? `http://127.0.0.1:${address?.port}` : "";
  return {
    url,
    token: (subject, expires = "1h") =>
      new SignJWT({ preferred_username: subject })
        .setProtectedHeader({ alg: "ES256", kid: "one", typ: "at+jwt" })
        .setIssuer(url)
        .setAudience("pitwall")
        .setSubject(subject)
        .setIssuedAt("-2h")
        .setExpirationTime(expires)
        .sign(privateKey),
    [Symbol.dispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}
