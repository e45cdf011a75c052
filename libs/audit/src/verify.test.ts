import { generateKeyPairSync } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { entryHash, signHead, type SignedHead } from "./entry.ts";
import { rootOfLeaves } from "./merkle.ts";
import { verifyExport, type ExportedEntry } from "./verify.ts";

const { privateKey } = generateKeyPairSync("ed25519");

function entry(index: number, detail = '{"b":1,"a":[true,null]}'): ExportedEntry {
  const content = {
    index,
    timeMs: 1_800_000_000_000 + index,
    actor: "token:1",
    subject: "ada",
    action: "VmService/StopVm",
    projectId: "p",
    object: `vm/${index}`,
    detail,
    requestId: "",
    generation: BigInt(index),
  };
  return { ...content, leafHash: entryHash(content) };
}

function log(size: number): { entries: ExportedEntry[]; head: SignedHead } {
  const entries = Array.from({ length: size }, (_, index) => entry(index));
  return { entries, head: headOf(entries) };
}

const headOf = (entries: readonly ExportedEntry[], key = privateKey): SignedHead =>
  signHead({ size: entries.length, root: rootOfLeaves(entries.map(({ leafHash }) => leafHash)) }, 1_800_000_000_000, key);

describe("an export", () => {
  it("as it was written is sound, the spelling of its JSON aside", () => {
    const { entries, head } = log(9);
    expect(verifyExport(entries, head)).toEqual([]);
    const spelt = entries.map((one) => ({ ...one, detail: '{ "a": [true, null], "b": 1 }' }));
    expect(verifyExport(spelt, head, { head, publicKey: head.publicKey, entries })).toEqual([]);
  });

  it("names an entry of which any field was changed", () => {
    const changes: Partial<ExportedEntry>[] = [
      ...[{ timeMs: 1 }, { actor: "eve" }, { subject: "eve" }, { action: "VmService/StartVm" }, { projectId: "q" }, { object: "vm/9" }],
      ...[{ detail: "{}" }, { detail: "{" }, { requestId: "x" }, { generation: 9n }, { actor: "token:", subject: "1ada" }],
    ];
    for (const change of changes) {
      const { entries, head } = log(6);
      entries[3] = { ...entry(3), ...change };
      expect(verifyExport(entries, head)).toEqual(["entry 3 was changed: it is not what its hash was made of"]);
    }
  });

  it("names what was dropped, moved, doubled, added or cut", () => {
    const { entries, head } = log(8);
    const without = (...gone: number[]): ExportedEntry[] => entries.filter(({ index }) => !gone.includes(index));
    expect(verifyExport(without(2, 5, 6), head)).toEqual(["entry 2 is missing", "entries 5 to 6 are missing"]);
    expect(verifyExport(without(6, 7), head)).toEqual(["entries 6 to 7 are missing"]);
    expect(verifyExport([...without(4), entry(4)], head)).toEqual(["entry 4 is out of order: it comes after entry 7"]);
    expect(verifyExport([...entries, entry(7)], head)).toEqual(["entry 7 is there twice"]);
    expect(verifyExport([...entries, entry(8)], head)).toEqual(["entry 8 is not covered by the signed head, which is of 8 entries"]);
    expect(verifyExport(entries, undefined)).toEqual(["the end is cut off: after 8 entries there is no signed head"]);
  });

  it("does not hide an entry that was changed with its hash, and an older export names it", () => {
    const { entries, head } = log(5);
    const older = [...entries];
    entries[1] = entry(1, '{"forged":true}');
    expect(verifyExport(entries, head)).toEqual([
      "an entry was changed together with its hash: the entries do not make up the signed root",
    ]);
    expect(verifyExport(entries, headOf(entries), { entries: older })).toEqual(["entry 1 is not the one of the older export"]);
  });

  it("must begin with the tree of an older head, whoever signed it anew", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.nat(20), fc.nat(), (size, more, pick) => {
        const older = log(size).head;
        const { entries, head } = log(size + more);
        expect(verifyExport(entries, head, { head: older })).toEqual([]);
        const forged = entries.map((one) => (one.index === pick % size ? entry(one.index, '{"forged":true}') : one));
        expect(verifyExport(forged, headOf(forged), { head: older })).toHaveLength(1);
      }),
      { numRuns: 30 },
    );
    expect(verifyExport(log(3).entries, log(3).head, { head: log(4).head })).toEqual([
      "the log is shorter than it was: 3 entries, and 4 at the older head",
    ]);
  });

  it("is believed of the right key only", () => {
    const { entries, head } = log(3);
    const other = headOf(entries, generateKeyPairSync("ed25519").privateKey);
    expect(verifyExport(entries, { ...head, timeMs: 1 })).toEqual([
      "the signature of the head is wrong: size, root or time of the head were changed",
    ]);
    expect(verifyExport(entries, { ...head, publicKey: other.publicKey })).toHaveLength(1);
    expect(verifyExport(entries, other, { publicKey: head.publicKey })).toEqual([
      expect.stringMatching(/^the head is signed by another key: [0-9a-f]{64}$/),
    ]);
    expect(verifyExport(entries, other, { head })).toHaveLength(1);
    expect(verifyExport(entries, other, { head, publicKey: other.publicKey })).toEqual([]);
  });
});
