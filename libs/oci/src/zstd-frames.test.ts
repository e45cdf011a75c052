import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createZstdDecompress, zstdCompressSync } from "node:zlib";
import { expect, it } from "vitest";
import { zstdFrames } from "./zstd-frames.ts";

async function* inPieces(content: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size);
}

async function inflated(content: Buffer, size: number): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(Readable.from(zstdFrames(inPieces(content, size)), { objectMode: false }), createZstdDecompress(), hash);
  return hash.digest("hex");
}

const noise = Buffer.from(Array.from({ length: 400_000 }, (_, at) => (at * at * 31) >>> 7));
const checked = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };
const skippable = (size: number): Buffer => {
  const frame = Buffer.alloc(8 + size, "s");
  frame.writeUInt32LE(0x184d2a53, 0);
  frame.writeUInt32LE(size, 4);
  return frame;
};
const parts = [noise, Buffer.alloc(0), Buffer.from("one"), Buffer.alloc(300_000, "r"), noise.subarray(7, 1000)];
const whole = createHash("sha256").update(Buffer.concat(parts)).digest("hex");
const stream = Buffer.concat([
  skippable(3),
  ...parts.flatMap((part, at) => [zstdCompressSync(part, at % 2 === 0 ? checked : {}), skippable(at === 2 ? 0 : 70_000)]),
]);

it.each([1, 5, 1000, 65_536, 10_000_000])("hands on many frames, and no skippable one, from chunks of %i bytes", async (size) => {
  expect(await inflated(size === 1 ? Buffer.concat(parts.map((part) => zstdCompressSync(part.subarray(0, 500)))) : stream, size)).toBe(
    size === 1
      ? createHash("sha256")
          .update(Buffer.concat(parts.map((part) => part.subarray(0, 500))))
          .digest("hex")
      : whole,
  );
});

it("refuses a stream that ends inside a frame", async () => {
  const frames = Buffer.concat([zstdCompressSync(noise), zstdCompressSync(noise, checked)]);
  for (const cut of [1, 3, 4, 5, 100, frames.length / 2, frames.length - 2]) {
    await expect(inflated(frames.subarray(0, frames.length - Math.floor(cut)), 777)).rejects.toThrow("a layer ends too early");
  }
});

it("refuses what follows a frame and is none", async () => {
  await expect(inflated(Buffer.concat([zstdCompressSync(noise), Buffer.from("garbage")]), 777)).rejects.toThrow(
    "a layer is not valid zstd",
  );
});
