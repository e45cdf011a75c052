// Certificates of the installation's own authority that no controller would make, from the key that the controllers draw theirs from.
import { createPrivateKey, createPublicKey, hkdfSync, randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sshString } from "@pitwall/runtime";
import { run } from "./run.ts";

const keyType = "ssh-ed25519";
/** As services/controller/src/ca/ssh-authority.ts draws it. */
const purpose = "pitwall ssh user authority 1";
const seedBytes = 32;
/** What stands before the seed in the PKCS#8 of an ed25519 key (RFC 8410, section 7). */
const pkcs8Head = Buffer.from("302e020100300506032b657004220420", "hex");
const blockBytes = 8;

/** Writes the authority's private key of a stack into a file, as `ssh-keygen -s` reads it. */
export async function writeAuthority(stateDir: string, file: string): Promise<void> {
  const pem = await readFile(join(stateDir, "controller", "ca", "key.pem"), "utf8");
  const der = createPrivateKey(pem).export({ format: "der", type: "pkcs8" });
  const seed = Buffer.from(hkdfSync("sha256", der, "", purpose, seedBytes));
  const own = createPrivateKey({ key: Buffer.concat([pkcs8Head, seed]), format: "der", type: "pkcs8" });
  const { x = "" } = createPublicKey(own).export({ format: "jwk" });
  const publicKey = Buffer.from(x, "base64url");
  // OpenSSH's own format (PROTOCOL.key), without a passphrase: it reads ed25519 keys in no other.
  const check = randomBytes(4);
  const half = [sshString(keyType), sshString(publicKey)];
  const secret = Buffer.concat([check, check, ...half, sshString(Buffer.concat([seed, publicKey])), sshString("")]);
  const padding = Buffer.from(Array.from({ length: (blockBytes - (secret.length % blockBytes)) % blockBytes }, (_, at) => at + 1));
  const one = Buffer.from([0, 0, 0, 1]);
  const head = [Buffer.from("openssh-key-v1\0"), sshString("none"), sshString("none"), sshString(""), one];
  const whole = Buffer.concat([...head, sshString(Buffer.concat(half)), sshString(Buffer.concat([secret, padding]))]);
  const lines = whole.toString("base64").match(/.{1,70}/g) ?? [];
  const text = `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines.join("\n")}\n-----END OPENSSH PRIVATE KEY-----\n`;
  await writeFile(file, text, { mode: 0o600 });
}

/** A new key, with a certificate for it beside it, of that authority. `words` are ssh-keygen's: the principals, the times, the conditions. */
export async function certify(authority: string, file: string, words: readonly string[]): Promise<void> {
  for (const line of [
    ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file],
    ["-q", "-s", authority, "-I", "dev", ...words, `${file}.pub`],
  ]) {
    const { code, stderr } = await run(["ssh-keygen", ...line]);
    if (code !== 0) throw new Error(`ssh-keygen ${line.join(" ")}: ${stderr}`);
  }
}
