import { generateKeyPairSync } from "node:crypto";
import { sshLineOf } from "@pitwall/auth";
import { expect, test } from "vitest";
import { sshAuthority, sshHostAuthority } from "./ssh-authority.ts";

const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const caKey = Uint8Array.from(privateKey.export({ format: "der", type: "pkcs8" })).buffer;
const hostAuthority = (subject: string): string => sshLineOf(sshHostAuthority(caKey, subject));

test("each user has a host authority of their own, whatever they are called, and none of them signs logins", () => {
  const long = "x".repeat(10_000);
  const subjects = ["", "ada", "ada ", "Ada", "bob", "é", long, `${long}x`];
  const authorities = [sshLineOf(sshAuthority(caKey)), ...subjects.map(hostAuthority)];
  expect(new Set(authorities).size).toBe(subjects.length + 1);
  expect(subjects.map(hostAuthority)).toEqual(authorities.slice(1));
});
