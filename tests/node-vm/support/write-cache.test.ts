import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import { blockBytes, WriteCache } from "./write-cache.ts";

const blocks = 8;
const sizeBytes = blocks * blockBytes;
let dir: string;
let path: string;
let file: number;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "pitwall-write-cache-"));
  path = join(dir, "disk");
  writeFileSync(path, "");
  truncateSync(path, sizeBytes);
  file = openSync(path, "r+");
});
afterEach(() => {
  closeSync(file);
  rmSync(dir, { recursive: true });
});

const write = fc
  .record({ at: fc.nat(sizeBytes - 1), length: fc.integer({ min: 1, max: 3 * blockBytes }), byte: fc.integer({ min: 1, max: 255 }) })
  .map(({ at, length, byte }) => ({ kind: "write" as const, at, data: Buffer.alloc(Math.min(length, sizeBytes - at), byte) }));
const step = fc.oneof(
  { weight: 4, arbitrary: write },
  { weight: 1, arbitrary: fc.constant({ kind: "flush" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "cut" as const }) },
);

it("reads what was written; a power cut takes it back to the last flush, and to nothing before or in between", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      truncateSync(path, 0);
      truncateSync(path, sizeBytes);
      const cache = new WriteCache(file);
      let [now, flushed] = [Buffer.alloc(sizeBytes), Buffer.alloc(sizeBytes)];
      for (const one of steps) {
        if (one.kind === "write") {
          one.data.copy(now, one.at);
          cache.write(one.at, one.data);
        } else if (one.kind === "flush") {
          flushed = Buffer.from(now);
          cache.flush();
          expect(readFileSync(path).equals(flushed)).toBe(true);
        } else {
          now = Buffer.from(flushed);
          cache.cutPower(() => false);
        }
        expect(cache.read(0, sizeBytes).equals(now)).toBe(true);
      }
      const [from, length] = [blockBytes - 100, blockBytes + 200];
      expect(cache.read(from, length).equals(now.subarray(from, from + length))).toBe(true);
    }),
  );
});

it("keeps those blocks of a power cut that had reached the medium by chance, each whole", () => {
  const cache = new WriteCache(file);
  cache.write(0, Buffer.alloc(sizeBytes, 7));
  cache.cutPower((block) => block % 2 === 1);
  const left = cache.read(0, sizeBytes);
  for (let block = 0; block < blocks; block++)
    expect(left.subarray(block * blockBytes, (block + 1) * blockBytes).equals(Buffer.alloc(blockBytes, block % 2 === 1 ? 7 : 0))).toBe(
      true,
    );
});

it("writes out its oldest when it is full, as a disk does", () => {
  const cache = new WriteCache(file, 4);
  for (let block = 0; block < 5; block++) cache.write(block * blockBytes, Buffer.alloc(blockBytes, block + 1));
  expect(cache.unflushedBlocks).toBe(2);
  cache.cutPower(() => false);
  expect([...cache.read(0, sizeBytes)].filter((_, at) => at % blockBytes === 0)).toEqual([1, 2, 3, 0, 0, 0, 0, 0]);
});

it("gives zeros behind the end of a file that is shorter than it was", () => {
  const cache = new WriteCache(file);
  truncateSync(path, 10);
  expect(cache.read(blockBytes, 20).equals(Buffer.alloc(20))).toBe(true);
});
