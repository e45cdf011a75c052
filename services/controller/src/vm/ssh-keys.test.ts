import { expect, it } from "vitest";
import { parseSshKey } from "./ssh-keys.ts";

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

it("takes a line of a .pub file, and knows equal keys whatever their comment", () => {
  const parsed = parseSshKey(`  ${key}\tada@example  \n`, "key");
  expect(parsed).toEqual({ line: key, comment: "ada@example", fingerprint: parseSshKey(key, "key").fingerprint });
  expect(parsed.fingerprint).toMatch(/^SHA256:[A-Za-z0-9+/]{43}$/);
});

it.each([
  ["", "must begin with a key type"],
  ["ssh-dss AAAA", "must begin with a key type"],
  [`command="x" ${key}`, "must begin with a key type"],
  [key.slice(0, -3), "is cut off or damaged"],
  [key.replace("AAAAC3", "AAAAC4"), "is cut off or damaged"],
  [`${key}\nssh-rsa AAAA`, "is not one line"],
  ["-----BEGIN OPENSSH PRIVATE KEY-----", "is a private key"],
])("refuses %j", (text, message) => {
  expect(() => parseSshKey(text, "public_key")).toThrow(`public_key: ${message}`);
});
