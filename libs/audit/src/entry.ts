// The bytes that are hashed and signed: of an entry, and of a head. docs/audit.md says them in words; they never change.
import { createHash, createPublicKey, sign, verify, type KeyObject } from "node:crypto";
import { leafHash, type Hash, type TreeHead } from "./merkle.ts";

export interface Entry {
  /** From 0 without gaps. */
  readonly index: number;
  readonly timeMs: number;
  readonly actor: string;
  readonly subject: string;
  readonly action: string;
  readonly projectId: string;
  readonly object: string;
  /** JSON. */
  readonly detail: string;
  readonly requestId: string;
  readonly generation: bigint;
}

const leafLabel = "pitwall-audit-leaf-v1";
const headLabel = "pitwall-audit-head-v1";

/** The label and each field as UTF-8, each after its length in bytes as four bytes, big-endian. */
function entryBytes(entry: Entry): Buffer {
  const { index, timeMs, actor, subject, action, projectId, object, detail, requestId, generation } = entry;
  const fields = [
    ...[leafLabel, String(index), String(timeMs), actor, subject, action, projectId, object],
    ...[canonicalJson(JSON.parse(detail)), requestId, String(generation)],
  ];
  return Buffer.concat(
    fields.flatMap((field) => {
      const content = Buffer.from(field, "utf8");
      const length = Buffer.alloc(4);
      length.writeUInt32BE(content.length);
      return [length, content];
    }),
  );
}

export function entryHash(entry: Entry): Hash {
  return leafHash(entryBytes(entry));
}

/** RFC 8785: no blanks, members sorted by their names' UTF-16 code units. */
function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`).join(",")}}`;
}

export interface SignedHead extends TreeHead {
  readonly timeMs: number;
  readonly signature: Buffer;
  /** SubjectPublicKeyInfo of an Ed25519 key. */
  readonly publicKey: Buffer;
}

/** The label as ASCII, the size and the time in milliseconds as eight bytes each, big-endian, the root. */
function headBytes({ size, root }: TreeHead, timeMs: number): Buffer {
  const numbers = Buffer.alloc(16);
  numbers.writeBigUInt64BE(BigInt(size));
  numbers.writeBigUInt64BE(BigInt(timeMs), 8);
  return Buffer.concat([Buffer.from(headLabel), numbers, root]);
}

/** `key` is an Ed25519 private key. */
export function signHead(head: TreeHead, timeMs: number, key: KeyObject): SignedHead {
  const publicKey = createPublicKey(key).export({ type: "spki", format: "der" });
  return { ...head, timeMs, signature: sign(null, headBytes(head, timeMs), key), publicKey };
}

/** Whether the head is signed by the key that it names; whether that key is to be believed is another question. */
export function isSigned(head: SignedHead): boolean {
  try {
    const key = createPublicKey({ key: head.publicKey, type: "spki", format: "der" });
    return key.asymmetricKeyType === "ed25519" && verify(null, headBytes(head, head.timeMs), key, head.signature);
  } catch {
    return false; // no key, or no signature
  }
}

/** SHA-256 of the key. */
export function keyIdOf(publicKey: Uint8Array): Buffer {
  return createHash("sha256").update(publicKey).digest();
}
