// The squashfs of layers that are still coming: the same as of layers that are there, and nothing when one fails.
import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { Budget, defaultLimits, LayerStore, openConfinement, writeImage } from "../src/index.ts";
import { layerOf, sha256, type WrittenLayer } from "./support/layout-writer.ts";
import { scratch } from "./support/scratch.ts";
import { tarOf, type TarSpec } from "./support/tar-writer.ts";
import { sourceOf } from "./support/unpack.ts";

const run = promisify(execFile);
const confinement = await openConfinement();
const file = (name: string, content: string): TarSpec => ({ name, content: Buffer.from(content) });
const large = (name: string): TarSpec => ({ name, content: Buffer.alloc(700_000, name) });

/** The image at `name` below `dir`, from a store of its own unless one is given. */
async function write(dir: string, name: string, layers: readonly WrittenLayer[], storeDir = `${name}-layers`): Promise<Buffer> {
  const { sources, image } = sourceOf(layers, 10_000);
  const signal = AbortSignal.timeout(20_000);
  await using store = await LayerStore.open({ dir: join(dir, storeDir), sources, keepBytes: 2 ** 30, reserveBytes: 0 });
  using pulling = store.begin("test", image, new Budget(defaultLimits), signal);
  await writeImage(pulling, join(dir, name), defaultLimits, confinement, signal);
  return await readFile(join(dir, name));
}

/** Content by path, of some files. */
async function contents(image: string, paths: readonly string[]): Promise<string[]> {
  return Promise.all(paths.map(async (path) => (await run("rdsquashfs", ["--cat", path, image])).stdout.slice(0, 20)));
}

it.each<[string, readonly (readonly TarSpec[])[], Readonly<Record<string, string>>]>([
  ["nothing unusual", [[file("a", "lower"), large("b")], [file("c", "upper")]], { a: "lower", c: "upper" }],
  ["a file that comes twice", [[file("a", "first"), large("b"), file("a", "second")]], { a: "second" }],
  ["a file that becomes a folder", [[file("a", "file"), large("b"), { name: "a", flag: "5" }, file("a/x", "inside")]], { "a/x": "inside" }],
  ["a folder that becomes a file", [[file("a/x", "inside"), large("b"), file("a", "file")]], { a: "file" }],
  [
    "a folder that is a link below",
    [[{ name: "real", flag: "5" }, { name: "lib", flag: "2", linkname: "real" }, large("b")], [file("lib/x", "through")]],
    { "real/x": "through" },
  ],
  [
    "a file under a link that comes after it",
    [[file("d/x", "x"), { name: "d", flag: "2", linkname: "e" }, file("d/y", "y")]],
    { "e/y": "y" },
  ],
  [
    "a whiteout through a link",
    [[file("real/x", "x"), { name: "lib", flag: "2", linkname: "real" }, file("real/y", "y")], [file("lib/.wh.x", "")]],
    { "real/y": "y" },
  ],
  [
    "a hard link to what went out early",
    [
      [file("a", "shared"), { name: "b", flag: "1", linkname: "a" }],
      [{ name: "c", flag: "1", linkname: "a" }, file("d", "own")],
    ],
    { a: "shared", b: "shared", c: "shared", d: "own" },
  ],
  ["no layers that hold anything", [[], []], {}],
])("writes %s", async (_, stack, expected) => {
  await using work = await scratch();
  const layers = stack.map((specs) => layerOf(tarOf(specs), "gzip"));
  const coming = await write(work.dir, "coming", layers);
  expect(await contents(join(work.dir, "coming"), Object.keys(expected))).toEqual(Object.values(expected));
  // Again while they come, and from layers that are all there.
  expect(sha256(await write(work.dir, "again", layers))).toBe(sha256(coming));
  expect(sha256(await write(work.dir, "kept", layers, "again-layers"))).toBe(sha256(coming));
});

it("writes an image without layers", async () => {
  await using work = await scratch();
  expect((await write(work.dir, "empty", [])).length).toBeGreaterThan(0);
});

it("leaves nothing when a layer fails at its end, or when it is told to stop", async () => {
  await using work = await scratch();
  const good = layerOf(tarOf([large("a")]), "gzip");
  const bad = { ...layerOf(tarOf([large("b"), large("c")]), "zstd"), diffId: sha256(Buffer.from("other")) };
  await expect(write(work.dir, "image", [good, bad])).rejects.toThrow("an unpacked layer should have digest");
  const { sources, image } = sourceOf([good]);
  const stopping = new AbortController();
  await using store = await LayerStore.open({ dir: join(work.dir, "layers"), sources, keepBytes: 2 ** 30, reserveBytes: 0 });
  using pulling = store.begin("test", image, new Budget(defaultLimits), stopping.signal);
  const stopped = writeImage(pulling, join(work.dir, "image"), defaultLimits, confinement, stopping.signal);
  stopping.abort(new Error("told to"));
  await expect(stopped).rejects.toThrow("told to");
  expect((await readdir(work.dir)).filter((name) => name.startsWith("image") && !name.endsWith("-layers"))).toEqual([]);
});
