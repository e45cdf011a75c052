// Layers that are made to do harm, or broken: refused with a clear error, or harmless as docs say.
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { expect, it } from "vitest";
import { file, harmless, longName, plain, refused } from "./support/hostile-corpus.ts";
import { layerOf, sha256, type Compression, type WrittenLayer } from "./support/layout-writer.ts";
import { refusalOf, treeOfLayers } from "./support/outcome.ts";
import { scratch } from "./support/scratch.ts";
import { tarOf } from "./support/tar-writer.ts";

it.each(harmless)("makes harmless: %s", async (_, stack, expected) => {
  await using work = await scratch();
  expect(await treeOfLayers(join(work.dir, "layers"), plain(...stack.map(tarOf)))).toEqual(expected);
});

it.each(refused)("refuses %s", async (_, layers, message) => {
  await using work = await scratch();
  expect(await refusalOf(join(work.dir, "layers"), layers())).toMatch(message);
});

/** A layer whose stored bytes are replaced, and named by their own digest again: what is wrong is found when it is unpacked. */
function stored(layer: WrittenLayer, bytes: Buffer): WrittenLayer {
  return { ...layer, stored: bytes, digest: sha256(bytes) };
}

const good = tarOf([file("a", { content: Buffer.alloc(3000, "a") }), file(longName, { content: Buffer.alloc(600_000, "b") })]);

it.each([
  ["inside a header", 100],
  ["between header and content", 512],
  ["inside content", 1000],
  ["inside padding", 512 + 3000 + 5],
  ["between pax header and entry", 512 + 3072 + 1024],
  ["inside a pax header", 512 + 3072 + 600],
])("refuses a tar that ends %s, though its digests are right", async (_, length) => {
  await using work = await scratch();
  expect(await refusalOf(join(work.dir, "layers"), plain(good.subarray(0, length)))).toMatch(/corrupt: a tar ends too early/);
});

it.each<[string, Compression, (whole: Buffer) => number]>([
  ["in the gzip header", "gzip", () => 5],
  ["in the gzip content", "gzip", (whole) => whole.length >> 1],
  ["in the gzip checksum", "gzip", (whole) => whole.length - 6],
  ["before its last byte (gzip)", "gzip", (whole) => whole.length - 1],
  ["in the zstd magic", "zstd", () => 3],
  ["in the zstd header", "zstd", () => 5],
  ["in a zstd block", "zstd", (whole) => whole.length >> 1],
  ["before its last byte (zstd)", "zstd", (whole) => whole.length - 1],
  ["before its first byte (gzip)", "gzip", () => 0],
])("refuses a blob that ends %s", async (_, compression, cut) => {
  await using work = await scratch();
  const layer = layerOf(good, compression);
  const short = stored(layer, layer.stored.subarray(0, cut(layer.stored)));
  expect(await refusalOf(join(work.dir, "layers"), [short])).toMatch(/corrupt: (?:a layer|layer sha256:[0-9a-f]+) ends too early/);
});

it.each<[string, (layer: WrittenLayer) => WrittenLayer, RegExp]>([
  ["gzip that is called zstd", (layer) => ({ ...layer, compression: "zstd" }), /corrupt: a layer is not valid zstd/],
  ["gzip that is called plain", (layer) => ({ ...layer, compression: "none" }), /corrupt: .*(?:checksum|octal|ends too early)/],
  ["a plain tar that is called gzip", (layer) => ({ ...stored(layer, good), compression: "gzip" }), /corrupt: .* is not valid gzip/],
  [
    "zstd that is called gzip",
    (layer) => ({ ...stored(layer, zstdCompressSync(good)), compression: "gzip" }),
    /corrupt: .* is not valid gzip/,
  ],
  [
    "another tar than the diff id says",
    (layer) => ({ ...layer, diffId: sha256(Buffer.from("other")) }),
    /corrupt: an unpacked layer should have digest/,
  ],
  [
    "other bytes than the digest says",
    (layer) => ({ ...layer, digest: sha256(Buffer.from("other")) }),
    /corrupt: a layer should have digest/,
  ],
  ["one flipped bit", (layer) => ({ ...layer, stored: flipped(layer.stored) }), /corrupt: /],
  [
    "a byte more than its size",
    (layer) => ({ ...layer, stored: Buffer.concat([layer.stored, Buffer.alloc(1)]) }),
    /corrupt: a layer should have digest/,
  ],
  ["noise after gzip", (layer) => stored(layer, Buffer.concat([layer.stored, Buffer.from("noise!")])), /corrupt: .* is not valid gzip/],
  [
    "a broken second gzip member",
    (layer) => stored(layer, Buffer.concat([layer.stored, gzipSync("more").subarray(0, -2)])),
    /corrupt: .* ends too early/,
  ],
  [
    "a second gzip member with content",
    (layer) => stored(layer, Buffer.concat([layer.stored, gzipSync("more")])),
    /corrupt: an unpacked layer should have digest/,
  ],
])("refuses %s", async (_, change, message) => {
  await using work = await scratch();
  const layer = change(layerOf(good, "gzip"));
  // The wrong bytes must be what the source has for the digest that the image names.
  expect(await refusalOf(join(work.dir, "layers"), [layer])).toMatch(message);
});

function flipped(content: Buffer): Buffer {
  const copy = Buffer.from(content);
  copy[copy.length >> 1] = (copy[copy.length >> 1] ?? 0) ^ 1;
  return copy;
}
