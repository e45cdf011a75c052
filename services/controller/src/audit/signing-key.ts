// The key that signs the heads of the audit log: Ed25519, beside the CA's, and as secret.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { join } from "node:path";
import { readOrMake, writeFileAtomic } from "@pitwall/runtime";

/** Reads the key below `dir`, which all controllers share, or makes it. `audit.pub.pem` beside it is for those who verify. */
export async function openSigningKey(dir: string): Promise<KeyObject> {
  const make = (): string | Buffer => generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" });
  const key = createPrivateKey(await readOrMake(join(dir, "audit.key.pem"), make));
  await writeFileAtomic(join(dir, "audit.pub.pem"), createPublicKey(key).export({ type: "spki", format: "pem" }), 0o644);
  return key;
}
