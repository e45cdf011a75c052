// Judges an export of the audit log with nothing but the export, and what the verifier kept: an older head, or the public key.
import { entryHash, isSigned, keyIdOf, type Entry, type SignedHead } from "./entry.ts";
import { consistencyProof, isConsistent, rootOfLeaves, type Hash } from "./merkle.ts";

/** An entry as it was exported, with the hash that it is said to have. */
export interface ExportedEntry extends Entry {
  readonly leafHash: Hash;
}

export interface Kept {
  /** A head that was seen before: the log must begin with its tree. */
  readonly head?: SignedHead | undefined;
  /** SubjectPublicKeyInfo of the key that must have signed. */
  readonly publicKey?: Uint8Array | undefined;
  /** An older export: the new one must begin with its entries. */
  readonly entries?: readonly ExportedEntry[] | undefined;
}

/** What is wrong, each fault with the entry that it is about; none: the log is whole and unchanged. */
export function verifyExport(entries: readonly ExportedEntry[], head: SignedHead | undefined, kept: Kept = {}): string[] {
  if (!head) return [`the end is cut off: after ${entries.length} entries there is no signed head`];
  const faults = [...placeFaults(entries, head.size), ...contentFaults(entries), ...headFaults(head, kept), ...olderFaults(entries, kept)];
  if (faults.length > 0) return faults;
  const leaves = entries.map(entryHash);
  if (!rootOfLeaves(leaves).equals(head.root))
    return ["an entry was changed together with its hash: the entries do not make up the signed root"];
  const { head: older } = kept;
  if (older && !isConsistent(older, head, consistencyProof(leaves, Math.min(older.size, leaves.length))))
    return [`the log does not begin with the ${older.size} entries of the older head: one of them was changed, or taken out`];
  return [];
}

/** Entries are numbered, so that one that is missing, moved or made twice shows by its number. */
function placeFaults(entries: readonly ExportedEntry[], size: number): string[] {
  const faults: string[] = [];
  const there = new Set(entries.map(({ index }) => index));
  const missing = rangesOf(Array.from({ length: size }, (_, index) => index).filter((index) => !there.has(index)));
  for (const range of missing) faults.push(`${range} missing`);
  let last = -1;
  for (const { index } of entries) {
    if (index === last) faults.push(`entry ${index} is there twice`);
    else if (index < last) faults.push(`entry ${index} is out of order: it comes after entry ${last}`);
    if (index >= size) faults.push(`entry ${index} is not covered by the signed head, which is of ${size} entries`);
    last = Math.max(last, index);
  }
  return faults;
}

/** `entry 3 is`, `entries 5 to 7 are` */
function rangesOf(indices: readonly number[]): string[] {
  const ranges: [number, number][] = [];
  for (const index of indices) {
    const range = ranges.at(-1);
    if (range?.[1] === index - 1) range[1] = index;
    else ranges.push([index, index]);
  }
  return ranges.map(([from, to]) => (from === to ? `entry ${from} is` : `entries ${from} to ${to} are`));
}

function contentFaults(entries: readonly ExportedEntry[]): string[] {
  return entries.flatMap((entry) => (isUnchanged(entry) ? [] : [`entry ${entry.index} was changed: it is not what its hash was made of`]));
}

function isUnchanged(entry: ExportedEntry): boolean {
  try {
    return entryHash(entry).equals(entry.leafHash);
  } catch {
    return false; // its detail is no JSON any more
  }
}

function headFaults(head: SignedHead, { head: older, publicKey }: Kept): string[] {
  const id = keyIdOf(head.publicKey).toString("hex");
  if (!isSigned(head)) return ["the signature of the head is wrong: size, root or time of the head were changed"];
  if (publicKey && !head.publicKey.equals(publicKey)) return [`the head is signed by another key: ${id}`];
  if (!older) return [];
  if (!isSigned(older)) return ["the signature of the older head is wrong"];
  const faults: string[] = [];
  if (!publicKey && !head.publicKey.equals(older.publicKey))
    faults.push(`the head is signed by another key than the older head: ${id}; if the key was changed on purpose, give the new public key`);
  if (older.size > head.size) faults.push(`the log is shorter than it was: ${head.size} entries, and ${older.size} at the older head`);
  return faults;
}

function olderFaults(entries: readonly ExportedEntry[], { entries: older = [] }: Kept): string[] {
  const byIndex = new Map(entries.map((entry) => [entry.index, entry]));
  return older.flatMap(({ index, leafHash }) => {
    const entry = byIndex.get(index);
    return !entry || entry.leafHash.equals(leafHash) ? [] : [`entry ${index} is not the one of the older export`];
  });
}
