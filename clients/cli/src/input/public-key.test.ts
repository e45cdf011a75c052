import { expect, test } from "vitest";
import { publicKeyLine } from "./public-key.ts";

test("the key's line is taken, comment included", () => {
  expect(publicKeyLine("# mine\nssh-ed25519 AAAAC3 ada@lap\n", "id.pub")).toBe("ssh-ed25519 AAAAC3 ada@lap");
});

test("a private key is refused before anything is sent", () => {
  expect(() => publicKeyLine("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n", "id")).toThrow(
    "id holds a private key, which stays with you: give id.pub",
  );
});

test("several keys and none are refused", () => {
  expect(() => publicKeyLine("ssh-rsa AAAA\nssh-rsa BBBB\n", "keys")).toThrow("keys holds more than one key");
  expect(() => publicKeyLine("hello\n", "notes")).toThrow("notes holds no SSH public key");
  expect(() => publicKeyLine("", "empty")).toThrow("empty holds no SSH public key");
});
