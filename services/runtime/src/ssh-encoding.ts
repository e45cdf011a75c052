// SSH's strings (RFC 4251, section 5), and the ed25519 keys that are made of two of them.

/** Its length in four bytes, and its bytes. */
export function sshString(content: Buffer | string): Buffer {
  const bytes = Buffer.from(content);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** `ssh-ed25519 AAAA…` of the 32 bytes of a public key (RFC 8709, section 4). */
export function sshEd25519Line(raw: Buffer): string {
  return `ssh-ed25519 ${Buffer.concat([sshString("ssh-ed25519"), sshString(raw)]).toString("base64")}`;
}
