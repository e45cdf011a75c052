// Whose tokens the gateway verifies while it is measured.
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, SignJWT } from "jose";

const audience = "pitwall";

/** Disposing it closes its server. */
export interface Issuer extends AsyncDisposable {
  readonly url: string;
  readonly audience: string;
  readonly token: string;
  readonly jwks: string;
}

/** Whose token every request carries. */
export async function openIssuer(): Promise<Issuer> {
  const { privateKey, publicKey } = await generateKeyPair("ES256");
  const jwks = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: "one", alg: "ES256", use: "sig" }] });
  const server = createServer((request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(request.url === "/keys" ? jwks : JSON.stringify({ issuer: url, jwks_uri: `${url}/keys` }));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`; // it listens on TCP
  const header = { alg: "ES256", kid: "one", typ: "at+jwt" };
  const jwt = new SignJWT().setProtectedHeader(header).setIssuer(url).setAudience(audience).setSubject("bench");
  const token = await jwt.setIssuedAt().setExpirationTime("2h").sign(privateKey);
  return { url, audience, token, jwks, [Symbol.asyncDispose]: async () => void server.close() };
}
