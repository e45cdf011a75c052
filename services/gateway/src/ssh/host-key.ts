// The gateway's SSH host key, and a fresh key per connection for the way on into the VM.
import { readFile } from "node:fs/promises";
import { writeFileAtomic } from "@pitwall/runtime";
import ssh2 from "ssh2";

export interface SshKeyPair {
  /** OpenSSH PEM. */
  readonly privateKey: string;
  /** `ssh-ed25519 AAAA…` */
  readonly publicLine: string;
}

/** ssh2 writes an ed25519 key whose first byte is zero in a form that it cannot read (mscdex/ssh2 issue 1416): such a one is made again. */
export function makeKeyPair(): SshKeyPair {
  for (;;) {
    const { private: privateKey, public: publicLine } = ssh2.utils.generateKeyPairSync("ed25519");
    if (!(ssh2.utils.parseKey(privateKey) instanceof Error)) return { privateKey, publicLine: publicLine.trim() };
  }
}

/** Reads the host key at `path`, or makes it. */
export async function openHostKey(path: string): Promise<SshKeyPair> {
  let privateKey = await readFile(path, "utf8").catch(() => undefined);
  if (privateKey === undefined) {
    privateKey = makeKeyPair().privateKey;
    await writeFileAtomic(path, privateKey);
  }
  const parsed = ssh2.utils.parseKey(privateKey);
  if (parsed instanceof Error) throw parsed;
  return { privateKey, publicLine: `${parsed.type} ${parsed.getPublicSSH().toString("base64")}` };
}
