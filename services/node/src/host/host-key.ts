// The VM's SSH host key: made once, kept with its disk, so that a restarted VM is recognised.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { readFile } from "node:fs/promises";
import { writeFileAtomic } from "@pitwall/runtime";

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
  return sshPublicLine(Buffer.from(key.export({ format: "jwk" }).x ?? "", "base64url"));
}

/** RFC 8709: two length-prefixed strings, the name and the 32 bytes of the key. */
export function sshPublicLine(raw: Buffer): string {
  const parts = [Buffer.from("ssh-ed25519"), raw].flatMap((part) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(part.length);
    return [length, part];
  });
  return `ssh-ed25519 ${Buffer.concat(parts).toString("base64")}`;
}
