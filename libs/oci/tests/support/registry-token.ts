// Tokens as a registry's token service signs them (distribution, "token authentication specification").
import { randomUUID, sign, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Certificate } from "./certificate.ts";

export const issuer = "test tokens";
export const service = "test registry";
const lifeSeconds = 300;

/** For what a scope such as `repository:team/app:pull,push` names. */
export function signToken({ pem, key }: Certificate, subject: string, scope: string): string {
  const [type, name, actions = ""] = scope.split(":");
  const nowSeconds = Math.floor(Date.now() / 1000);
  const header = { typ: "JWT", alg: "ES256", x5c: [new X509Certificate(pem).raw.toString("base64")] };
  const claims = {
    ...{ iss: issuer, sub: subject, aud: service, jti: randomUUID() },
    ...{ iat: nowSeconds, nbf: nowSeconds - 10, exp: nowSeconds + lifeSeconds },
    access: [{ type, name, actions: actions.split(",") }],
  };
  const signed = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  const signature = sign("sha256", Buffer.from(signed), { key: readFileSync(key), dsaEncoding: "ieee-p1363" });
  return `${signed}.${signature.toString("base64url")}`;
}
