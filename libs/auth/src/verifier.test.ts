import { createServer, type Server } from "node:http";
import { exportJWK, exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT, type CryptoKey, type JWTPayload } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeApiToken } from "./api-token.ts";
import { openVerifier, type VerifierOptions } from "./verifier.ts";

let server: Server;
let issuer = "";
let key: CryptoKey;
let publicKey: CryptoKey;

beforeAll(async () => {
  ({ privateKey: key, publicKey } = await generateKeyPair("ES256", { extractable: true }));
  const jwk = { ...(await exportJWK(publicKey)), kid: "one", alg: "ES256" };
  server = createServer((request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(request.url === "/keys" ? { keys: [jwk] } : { issuer, jwks_uri: `${issuer}/keys` }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  issuer = typeof address === "object" ? `http://127.0.0.1:${address?.port}` : "";
});
afterAll(() => server.close());

const now = (): number => Math.floor(Date.now() / 1000);
const sign = async (claims: JWTPayload = {}, header: { typ?: string; kid?: string } = {}, signer = key): Promise<string> => {
  const payload = { iss: issuer, aud: "pitwall", sub: "ada", iat: now(), exp: now() + 60, ...claims };
  return `Bearer ${await new SignJWT(payload).setProtectedHeader({ alg: "ES256", kid: "one", typ: "at+jwt", ...header }).sign(signer)}`;
};

describe("a token is accepted", () => {
  test("when everything is right", async () => {
    const verified = await openVerifier({ issuer, audience: "pitwall" }).verify(await sign());
    expect(verified.subject).toBe("ada");
    expect(verified.expiresAt.getTime()).toBeGreaterThan(Date.now());
  });
});

describe("a token that was good a moment ago", () => {
  const clock = { aheadMs: 0, monotonicMs: () => performance.now() + clock.aheadMs, wallMs: () => Date.now() + clock.aheadMs };

  test("is good again, to its end", async () => {
    clock.aheadMs = 0;
    const verifier = openVerifier({ issuer, audience: "pitwall", clock });
    const token = await sign();
    const first = await verifier.verify(token);
    clock.aheadMs = 50_000;
    expect(await verifier.verify(token)).toBe(first);
    clock.aheadMs = 61_000;
    const again = await verifier.verify(token); // verified anew: by the time that everybody else has, it is good still
    expect(again.expiresAt.getTime()).toBeLessThan(clock.wallMs());
    clock.aheadMs = 66_000;
    await expect(verifier.verify(token)).rejects.toMatchObject({ reason: "TOKEN_EXPIRED" });
  });

  test("says nothing of another with the same words", async () => {
    const verifier = openVerifier({ issuer, audience: "pitwall" });
    const token = await sign();
    await verifier.verify(token);
    const end = token.at(-2) === "A" ? "B" : "A";
    await expect(verifier.verify(`${token.slice(0, -2)}${end}${token.at(-1)}`)).rejects.toMatchObject({ reason: "TOKEN_INVALID" });
  });
});

describe("a token is refused", () => {
  const reasonOf = async (token: string | undefined, options: Partial<VerifierOptions> = {}): Promise<unknown> => {
    const error: unknown = await openVerifier({ issuer, audience: "pitwall", ...options })
      .verify(token)
      .then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
    return error instanceof Error && "reason" in error ? error.reason : error;
  };
  test("when there is none", async () => expect(await reasonOf(undefined)).toBe("TOKEN_MISSING"));
  test("when the scheme is another", async () => expect(await reasonOf("Basic YTpi")).toBe("TOKEN_MISSING"));
  test("that is an API token", async () => expect(await reasonOf(`Bearer ${makeApiToken().text}`)).toBe("TOKEN_INVALID"));
  test("when it has expired", async () => expect(await reasonOf(await sign({ exp: now() - 60 }))).toBe("TOKEN_EXPIRED"));
  test("of another issuer", async () => expect(await reasonOf(await sign({ iss: "https://else.example" }))).toBe("TOKEN_ISSUER"));
  test("for another audience", async () => expect(await reasonOf(await sign({ aud: "else" }))).toBe("TOKEN_AUDIENCE"));
  test("without a subject", async () => expect(await reasonOf(await sign({ sub: "" }))).toBe("TOKEN_INVALID"));
  test.each(["sub", "iat", "exp"])("that does not say its %s", async (claim) => {
    expect(await reasonOf(await sign({ [claim]: undefined }))).toBe("TOKEN_INVALID");
  });
  test("of more than 8 KiB, and one of less is not", async () => {
    expect(await reasonOf(await sign({ groups: "g".repeat(5_800) }))).toBe(undefined);
    expect(await reasonOf(await sign({ groups: "g".repeat(6_200) }))).toBe("TOKEN_INVALID");
  });
  test("that was issued too long ago, however long it is good", async () => {
    const old = { iat: now() - 100, exp: now() + 100 };
    expect(await reasonOf(await sign(old), { maxAgeMs: 80_000 })).not.toBe(undefined);
    expect(await reasonOf(await sign(old), { maxAgeMs: 120_000 })).toBe(undefined);
  });
  test("that is issued in the future", async () => expect(await reasonOf(await sign({ iat: now() + 60 }))).toBe("TOKEN_INVALID"));
  test("with an algorithm that its issuer does not use", async () => {
    expect(await reasonOf(await sign(), { algorithms: ["RS256", "PS256"] })).toBe("TOKEN_INVALID");
    expect(await reasonOf(await sign(), { algorithms: ["ES256"] })).toBe(undefined);
  });
  test("of a client that may not call, if some are named", async () => {
    const clients = ["console", "cli"];
    expect(await reasonOf(await sign({ azp: "other" }), { clients })).toBe("TOKEN_INVALID");
    expect(await reasonOf(await sign(), { clients })).toBe("TOKEN_INVALID");
    expect(await reasonOf(await sign({ azp: "cli" }), { clients })).toBe(undefined);
    expect(await reasonOf(await sign({ client_id: "console" }), { clients })).toBe(undefined);
  });
  test("that is an ID token", async () => expect(await reasonOf(await sign({ nonce: "n" }, { typ: "JWT" }))).toBe("TOKEN_INVALID"));
  test("with another type", async () => expect(await reasonOf(await sign({}, { typ: "logout+jwt" }))).toBe("TOKEN_INVALID"));
  test("that is a Keycloak ID token", async () => expect(await reasonOf(await sign({ typ: "ID" }, { typ: "JWT" }))).toBe("TOKEN_INVALID"));
  test("of an unknown key", async () => expect(await reasonOf(await sign({}, { kid: "two" }))).toBe("TOKEN_ISSUER"));
  test("signed by somebody else", async () => {
    const { privateKey } = await generateKeyPair("ES256");
    expect(await reasonOf(await sign({}, {}, privateKey))).toBe("TOKEN_INVALID");
  });
  test("without a signature", async () => {
    const token = new UnsecuredJWT({ iss: issuer, aud: "pitwall", sub: "ada", iat: now(), exp: now() + 60 }).encode();
    expect(await reasonOf(`Bearer ${token}`)).toBe("TOKEN_INVALID");
  });
  test("signed with the public key as a shared secret", async () => {
    const secret = new TextEncoder().encode(await exportSPKI(publicKey));
    const token = await new SignJWT({ iss: issuer, aud: "pitwall", sub: "ada", iat: now(), exp: now() + 60 })
      .setProtectedHeader({ alg: "HS256", kid: "one" })
      .sign(secret);
    expect(await reasonOf(`Bearer ${token}`)).toBe("TOKEN_INVALID");
  });
  test("while the issuer cannot be reached, as unavailable", async () => {
    const verifier = openVerifier({ issuer: "http://127.0.0.1:9", audience: "pitwall" });
    await expect(verifier.verify(await sign())).rejects.toMatchObject({ fault: "unavailable", reason: "ISSUER_UNREACHABLE" });
  });
});
