import { expect, it } from "vitest";
import { isPitwalls } from "./token-owner.ts";

const issuer = "https://id.example.com/realms/a";
const part = (claims: unknown): string => Buffer.from(JSON.stringify(claims)).toString("base64url");
const jwt = (claims: unknown): string => `${part({ alg: "ES256" })}.${part(claims)}.c2ln`;
const ours = jwt({ sub: "ada", iss: issuer });
const pwt = `pwt_${"0".repeat(16)}_${"a".repeat(43)}`;

it.each([
  ["an API token", `Bearer ${pwt}`],
  ["an API token after two spaces", `Bearer  ${pwt}`],
  ["an API token after a tab", `Bearer\t${pwt}`],
  ["an API token of another scheme", `Token token=${pwt}`],
  ["an API token without any scheme", pwt],
  ["an API token behind something", `Bearer x${pwt}`],
  ["half an API token", "bearer pwt_damaged"],
  ["a token of the issuer", `Bearer ${ours}`],
  ["one after two spaces", `Bearer  ${ours}`],
  ["one without a space", `Bearer:${ours}`],
  ["one in quotes", `Bearer "${ours}"`],
  ["one of another scheme", `DPoP ${ours}`],
  ["one without any scheme", ours],
  ["one behind another", `Bearer ${jwt({ iss: "https://else.example" })}, Bearer ${ours}`],
  ["one of the issuer with a slash", `Bearer ${jwt({ iss: `${issuer}/` })}`],
  ["one for another audience", `Bearer ${jwt({ iss: issuer, aud: "else" })}`],
  ["a JWT that cannot be read", `Bearer ${part({ alg: "ES256" })}.damaged.c2ln`],
  ["a JWT of five parts", `Bearer ${part({ alg: "dir" })}..a.b.c`],
  ["a JWT whose dots are written otherwise", `Bearer ${ours.replaceAll(".", "%2E")}`],
])("%s is Pitwall's", (_, authorization) => expect(isPitwalls(authorization, issuer)).toBe(true));

it.each([
  ["a password", "Basic YTpi"],
  ["an opaque token", "Bearer 2f4c-11+/8=="],
  ["a JWT of another issuer", `Bearer ${jwt({ iss: "https://else.example" })}`],
  ["a JWT that names no issuer, as Pitwall's always do", `Bearer ${jwt({ sub: "ada" })}`],
  ["a digest", 'Digest username="a", uri="/eyJ", response="b"'],
  ["nothing", ""],
])("%s is the VM's", (_, authorization) => expect(isPitwalls(authorization, issuer)).toBe(false));
