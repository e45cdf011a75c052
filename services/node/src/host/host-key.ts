// The VM's SSH host key: made once, kept with its disk, so that a restarted VM is recognised.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { readFile } from "node:fs/promises";
import { sshEd25519Line, writeFileAtomic } from "@pitwall/runtime";

export interface HostKey {
  /** PKCS#8 PEM. */
  readonly privatePem: string;
  /** `ssh-ed25519 AAAA…` */
  readonly publicLine: string;
}

/** Reads the key at `path`, or makes it. */
export async function openHostKey(path: string): Promise<HostKey> {
  const kept = await readFile(path, "utf8").catch(() => undefined);
  if (kept !== undefined) return { privatePem: kept, publicLine: publicLine(createPublicKey(createPrivateKey(kept))) };
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const privatePem = privateKey.export({ type: "pkcs8", format: "pem" }) as string; // PEM is text by definition
  await writeFileAtomic(path, privatePem);
  return { privatePem, publicLine: publicLine(publicKey) };
}

function publicLine(key: KeyObject): string {
  return sshEd25519Line(Buffer.from(key.export({ format: "jwk" }).x ?? "", "base64url"));
}
