// Run as a process of its own, so that its memory can be told: unpacks one layer that is all too much.
// Arguments: what kind, and a folder. Prints one JSON line.
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { Budget, defaultLimits, flatten, LayerStore, type ImageSources } from "../../src/index.ts";
import { emptyConfig } from "./empty-config.ts";
import { entryOf, headerOf } from "./tar-writer.ts";

const megabyte = 2 ** 20;
const zeros = (): Buffer => Buffer.alloc(64 * megabyte);
const endMark = Buffer.alloc(1024);
const big = headerOf({ name: "big", size: 30 * 2 ** 30 });

/** Compressed streams may follow each other, so that a small piece said often makes a large layer. */
const zip = { gzip: (content: Buffer) => gzipSync(content, { level: 9 }), zstd: (content: Buffer) => zstdCompressSync(content) };

interface Bomb {
  readonly compression: "gzip" | "zstd" | "none";
  readonly first: Buffer;
  readonly again: Buffer;
  readonly times: number;
  /** Where the layer must be right to the end, to show its nature only when it is merged. */
  readonly tar?: Buffer;
}

const empties = (): Buffer => Buffer.concat(Array.from({ length: 10_000 }, (_, at) => entryOf({ name: `${"d".repeat(60)}${at}` })));
const devices = (): Buffer =>
  Buffer.concat(Array.from({ length: 10_000 }, (_, at) => entryOf({ name: `${at}`, flag: "3", devMajor: 1, devMinor: at })));
const deep = (): Buffer => Buffer.concat(Array.from({ length: 5000 }, (_, at) => entryOf({ name: `${at}/${"d/".repeat(120)}f` })));
const attributes = (): Buffer =>
  Buffer.concat(
    Array.from({ length: 100 }, (_, at) =>
      entryOf({ name: `${at}`, xattrs: { "user.a": "v".repeat(60_000), "user.b": "w".repeat(60_000) } }),
    ),
  );

const bombs: Readonly<Record<string, () => Bomb>> = {
  "gzip-file": () => ({ compression: "gzip", first: zip.gzip(big), again: zip.gzip(zeros()), times: 480 }),
  "zstd-file": () => ({ compression: "zstd", first: zip.zstd(big), again: zip.zstd(zeros()), times: 480 }),
  "gzip-after-end": () => ({ compression: "gzip", first: zip.gzip(endMark), again: zip.gzip(zeros()), times: 1000 }),
  "zstd-after-end": () => ({ compression: "zstd", first: zip.zstd(endMark), again: zip.zstd(zeros()), times: 1000 }),
  "million-files": () => ({ compression: "gzip", first: zip.gzip(Buffer.alloc(0)), again: zip.gzip(empties()), times: 100 }),
  "million-devices": () => ({ compression: "zstd", first: zip.zstd(Buffer.alloc(0)), again: zip.zstd(devices()), times: 100 }),
  "million-folders": () => ({ compression: "gzip", first: zip.gzip(Buffer.alloc(0)), again: zip.gzip(deep()), times: 1, tar: deep() }),
  "gigabyte-of-attributes": () => ({ compression: "gzip", first: zip.gzip(Buffer.alloc(0)), again: zip.gzip(attributes()), times: 100 }),
};

const [kind = "", dir = ""] = process.argv.slice(2);
const bomb = bombs[kind]?.();
if (!bomb) throw new Error(`unknown bomb ${kind}`);
const { compression, first, again, times } = bomb;
const whole = function* (): Generator<Buffer> {
  yield first;
  for (let at = 0; at < times; at++) yield again;
};
const hash = createHash("sha256");
let sizeBytes = 0;
for (const part of whole()) {
  hash.update(part);
  sizeBytes += part.length;
}
const layer = {
  digest: `sha256:${hash.digest("hex")}`,
  diffId: `sha256:${bomb.tar ? createHash("sha256").update(bomb.tar).digest("hex") : "0".repeat(64)}`,
  sizeBytes,
  compression,
};
const image = { reference: "bomb", digest: layer.digest, sizeBytes, config: emptyConfig, layers: [layer] };
const sources: ImageSources = { resolve: async () => image, openBlob: async () => Readable.from(whole(), { objectMode: false }) };

const idleBytes = process.memoryUsage.rss();
const before = process.cpuUsage();
let message = "taken";
try {
  await using store = await LayerStore.open({ dir, sources, keepBytes: 2 ** 40, reserveBytes: 0 });
  using lease = await store.lease("bomb", image, new Budget(defaultLimits), new AbortController().signal);
  for await (const _ of flatten(lease.files, defaultLimits, new AbortController().signal));
} catch (error) {
  message = error instanceof Error ? error.message : String(error);
}
const { user, system } = process.cpuUsage(before);
process.stdout.write(
  JSON.stringify({
    message,
    cpuMs: (user + system) / 1000,
    grownBytes: process.resourceUsage().maxRSS * 1024 - idleBytes,
    storedBytes: sizeBytes,
  }),
);
