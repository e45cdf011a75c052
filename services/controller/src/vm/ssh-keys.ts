// SSH public keys as text: checked, normalised, named by their fingerprint.
import { createHash } from "node:crypto";
import { invalid } from "@pitwall/runtime";

const types: ReadonlySet<string> = new Set([
  "ssh-ed25519",
  "ssh-rsa",
  "ecdsa-sha2-nistp256",
  "ecdsa-sha2-nistp384",
  "ecdsa-sha2-nistp521",
  "sk-ssh-ed25519@openssh.com",
  "sk-ecdsa-sha2-nistp256@openssh.com",
]);
const maxBytes = 8192;

export interface SshPublicKey {
  /** `type base64`, without comment: equal for equal keys. */
  readonly line: string;
  readonly comment: string;
  /** `SHA256:…`, as ssh-keygen -l prints it. */
  readonly fingerprint: string;
}

/** Parses one line of an authorized_keys file without options. Throws `invalid` naming the field. */
export function parseSshKey(text: string, field: string): SshPublicKey {
  const [type = "", body = "", ...comment] = text.trim().split(/[ \t]+/);
  if (text.length > maxBytes || /[\r\n\0]/.test(text.trim())) throw invalid(field, "is not one line of at most 8 KiB");
  if (type.startsWith("-----BEGIN"))
    throw invalid(field, "is a private key: give the file that ends with .pub, and make a new key, since this one was sent");
  if (!types.has(type)) throw invalid(field, `must begin with a key type such as ssh-ed25519, got ${JSON.stringify(type.slice(0, 40))}`);
  const blob = Buffer.from(body, "base64");
  const inner = blob.length > 4 ? blob.subarray(4, 4 + blob.readUInt32BE(0)).toString("latin1") : "";
  if (blob.toString("base64") !== body || inner !== type)
    throw invalid(field, "is cut off or damaged: copy the whole line of the .pub file");
  return { line: `${type} ${body}`, comment: comment.join(" "), fingerprint: fingerprintOfBlob(blob) };
}

/** `SHA256:…` of a key as it is on the wire. */
export function fingerprintOfBlob(blob: Buffer): string {
  return `SHA256:${createHash("sha256").update(blob).digest("base64").replace(/=+$/, "")}`;
}
