// A Merkle tree as RFC 6962 section 2.1 hashes it. Pure: hashes in, hashes out.
import { createHash } from "node:crypto";

/** 32 bytes. */
export type Hash = Buffer;

export function leafHash(content: Uint8Array): Hash {
  return createHash("sha256").update(Buffer.of(0)).update(content).digest();
}

function nodeHash(left: Uint8Array, right: Uint8Array): Hash {
  return createHash("sha256").update(Buffer.of(1)).update(left).update(right).digest();
}

/**
 * What must be kept of a tree to append to it: the roots of its full subtrees, largest first, one for each bit that is set in its size.
 */
export interface Frontier {
  readonly size: number;
  readonly peaks: readonly Hash[];
}

export const emptyFrontier: Frontier = { size: 0, peaks: [] };

/** The tree with one leaf more. */
export function append({ size, peaks }: Frontier, leaf: Hash): Frontier {
  const next = [...peaks];
  let last = leaf;
  for (let rest = size; rest % 2 === 1; rest = Math.floor(rest / 2)) last = nodeHash(next.pop() ?? last, last);
  return { size: size + 1, peaks: [...next, last] };
}

/** The tree's root; of an empty tree, the hash of nothing. */
export function rootOf({ peaks }: Frontier): Hash {
  const last = peaks.at(-1);
  if (last === undefined) return createHash("sha256").digest();
  return peaks.slice(0, -1).reduceRight<Hash>((right, left) => nodeHash(left, right), last);
}

/** The root of these leaves. */
export function rootOfLeaves(leaves: readonly Hash[]): Hash {
  return rootOf(leaves.reduce(append, emptyFrontier));
}

/** The largest power of two below `size`, which is 2 or more. */
function split(size: number): number {
  let power = 1;
  while (power * 2 < size) power *= 2;
  return power;
}

/** The hashes that lead from leaf `index` to the root of these leaves: PATH of section 2.1.1. */
export function inclusionProof(leaves: readonly Hash[], index: number): Hash[] {
  if (leaves.length <= 1) return [];
  const at = split(leaves.length);
  const [left, right] = [leaves.slice(0, at), leaves.slice(at)];
  return index < at ? [...inclusionProof(left, index), rootOfLeaves(right)] : [...inclusionProof(right, index - at), rootOfLeaves(left)];
}

/** Whether a leaf is number `index` of the tree of this size and root: RFC 9162 section 2.1.3.2. */
export function isIncluded(leaf: Hash, index: number, size: number, proof: readonly Hash[], root: Hash): boolean {
  if (index < 0 || index >= size) return false;
  let [node, last, hash] = [index, size - 1, leaf];
  for (const sibling of proof) {
    if (last === 0) return false;
    if (node % 2 === 1 || node === last) {
      hash = nodeHash(sibling, hash);
      while (node % 2 === 0 && node !== 0) [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
    } else hash = nodeHash(hash, sibling);
    [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
  }
  return last === 0 && hash.equals(root);
}

/** The hashes that show that the first `older` of these leaves are a tree that the whole one began with: PROOF of section 2.1.2. */
export function consistencyProof(leaves: readonly Hash[], older: number): Hash[] {
  return older === 0 ? [] : subproof(leaves, older, true);
}

function subproof(leaves: readonly Hash[], older: number, isWhole: boolean): Hash[] {
  if (older === leaves.length) return isWhole ? [] : [rootOfLeaves(leaves)];
  const at = split(leaves.length);
  const [left, right] = [leaves.slice(0, at), leaves.slice(at)];
  if (older <= at) return [...subproof(left, older, isWhole), rootOfLeaves(right)];
  return [...subproof(right, older - at, false), rootOfLeaves(left)];
}

/** A tree as a signed head names it. */
export interface TreeHead {
  readonly size: number;
  readonly root: Hash;
}

/** Whether the newer tree begins with the older one: RFC 9162 section 2.1.4.2. */
export function isConsistent(older: TreeHead, newer: TreeHead, proof: readonly Hash[]): boolean {
  if (older.size > newer.size) return false;
  if (older.size === newer.size) return proof.length === 0 && older.root.equals(newer.root);
  if (older.size === 0) return proof.length === 0;
  let [node, last] = [older.size - 1, newer.size - 1];
  while (node % 2 === 1) [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
  const path = node === 0 ? [older.root, ...proof] : [...proof];
  const first = path.shift();
  if (first === undefined) return false;
  let [olderHash, newerHash] = [first, first];
  for (const sibling of path) {
    if (last === 0) return false;
    if (node % 2 === 1 || node === last) {
      olderHash = nodeHash(sibling, olderHash);
      newerHash = nodeHash(sibling, newerHash);
      while (node % 2 === 0 && node !== 0) [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
    } else newerHash = nodeHash(newerHash, sibling);
    [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
  }
  return last === 0 && olderHash.equals(older.root) && newerHash.equals(newer.root);
}
