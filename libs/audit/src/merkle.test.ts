// Against a naive tree written from the definitions of RFC 6962 section 2.1, and the test vectors of certificate-transparency logs.
import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  append,
  consistencyProof,
  emptyFrontier,
  inclusionProof,
  isConsistent,
  isIncluded,
  leafHash,
  rootOf,
  rootOfLeaves,
  type Hash,
} from "./merkle.ts";

const sha256 = (...parts: Uint8Array[]): Buffer => createHash("sha256").update(Buffer.concat(parts)).digest();

function naiveRoot(contents: readonly Uint8Array[]): Buffer {
  const [only] = contents;
  if (only === undefined) return sha256();
  if (contents.length === 1) return sha256(Buffer.of(0), only);
  const half = 2 ** (Math.ceil(Math.log2(contents.length)) - 1);
  return sha256(Buffer.of(1), naiveRoot(contents.slice(0, half)), naiveRoot(contents.slice(half)));
}

const contents = fc.array(fc.uint8Array({ maxLength: 8 }), { minLength: 1, maxLength: 70 });
const flip = (hash: Hash): Hash => Buffer.from(hash.map((byte, at) => (at === 0 ? byte ^ 1 : byte)));

it("hashes the known vectors of RFC 6962's trees", () => {
  const hex = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
  const leaves = hex.map((text) => leafHash(Buffer.from(text, "hex")));
  expect(rootOf(emptyFrontier).toString("hex")).toBe("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  expect(leaves[0]?.toString("hex")).toBe("6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
  expect(rootOfLeaves(leaves.slice(0, 2)).toString("hex")).toBe("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
  expect(rootOfLeaves(leaves).toString("hex")).toBe("5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
});

describe("a tree", () => {
  it("that grows leaf by leaf has the root that the definition gives it", () => {
    fc.assert(
      fc.property(contents, (all) => {
        let frontier = emptyFrontier;
        all.forEach((content, at) => {
          frontier = append(frontier, leafHash(content));
          expect(rootOf(frontier)).toEqual(naiveRoot(all.slice(0, at + 1)));
        });
      }),
      { numRuns: 20 },
    );
  });

  it("proves each leaf at its place, and no other leaf or place", () => {
    fc.assert(
      fc.property(contents, fc.nat(), fc.nat(), (all, pick, other) => {
        const leaves = all.map((content, at) => leafHash(Buffer.concat([Buffer.of(at), content])));
        const [index, root] = [pick % leaves.length, rootOfLeaves(leaves)];
        const leaf = leaves[index] ?? emptyLeaf;
        const proof = inclusionProof(leaves, index);
        expect(isIncluded(leaf, index, leaves.length, proof, root)).toBe(true);
        expect(isIncluded(flip(leaf), index, leaves.length, proof, root)).toBe(false);
        expect(isIncluded(leaf, index, leaves.length, proof, flip(root))).toBe(false);
        expect(isIncluded(leaf, index, leaves.length, [...proof, leaf], root)).toBe(false);
        if (proof.length > 0) expect(isIncluded(leaf, index, leaves.length, proof.slice(1), root)).toBe(false);
        const place = other % (leaves.length + 1);
        if (place !== index) expect(isIncluded(leaf, place, leaves.length, proof, root)).toBe(false);
      }),
    );
  });

  it("proves that it began with each older one, and with nothing else", () => {
    fc.assert(
      fc.property(contents, fc.nat(), (all, pick) => {
        const leaves = all.map((content, at) => leafHash(Buffer.concat([Buffer.of(at), content])));
        const size = pick % (leaves.length + 1);
        const newer = { size: leaves.length, root: rootOfLeaves(leaves) };
        const older = { size, root: rootOfLeaves(leaves.slice(0, size)) };
        const proof = consistencyProof(leaves, size);
        expect(isConsistent(older, newer, proof)).toBe(true);
        if (size > 0) expect(isConsistent({ ...older, root: flip(older.root) }, newer, proof)).toBe(false);
        if (size > 0) expect(isConsistent(older, { ...newer, root: flip(newer.root) }, proof)).toBe(false);
        expect(isConsistent(older, newer, [...proof, older.root])).toBe(false);
        expect(isConsistent({ ...older, size: newer.size + 1 }, newer, proof)).toBe(false);
        if (proof.length > 0) expect(isConsistent(older, newer, proof.map(flip))).toBe(false);
      }),
    );
  });
});

const emptyLeaf = leafHash(new Uint8Array());
