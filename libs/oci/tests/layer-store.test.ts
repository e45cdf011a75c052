// The folder of layers: what is shared, what is kept, and what a crash leaves.
import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { expect, it } from "vitest";
import { Budget, defaultLimits, LayerStore, type ImageSources, type LeasedLayers, type ResolvedImage } from "../src/index.ts";
import { layerOf, sha256, type WrittenLayer } from "./support/layout-writer.ts";
import { scratch } from "./support/scratch.ts";
import { tarOf } from "./support/tar-writer.ts";
import { sourceOf } from "./support/unpack.ts";

const odd = tarOf([
  {
    name: "caf\xe9\xff",
    content: Buffer.from("x"),
    mode: 0o4755,
    uid: 3_000_000_000,
    mtime: 1_700_000_000,
    xattrs: { "user.a": "\x00\xff\n" },
  },
  { name: "dev", flag: "3", devMajor: 1, devMinor: 3 },
  { name: "link", flag: "2", linkname: "n".repeat(200) },
]);
const layers = [
  layerOf(odd, "gzip"),
  ...["b", "c", "d"].map((name) => layerOf(tarOf([{ name, content: Buffer.alloc(50_000, name) }]), "zstd")),
];
const [base, b, c, d] = layers as [WrittenLayer, WrittenLayer, WrittenLayer, WrittenLayer]; // made above
const never = new AbortController().signal;

/** A store, and the digests that it asked for. */
async function open(dir: string, keepBytes = 2 ** 30, reserveBytes = 0): Promise<{ store: LayerStore; asked: string[] }> {
  const { sources } = sourceOf(layers);
  const asked: string[] = [];
  const counting: ImageSources = {
    ...sources,
    openBlob: (reference, image, layer, signal) => {
      asked.push(layer.digest);
      return sources.openBlob(reference, image, layer, signal);
    },
  };
  return { asked, store: await LayerStore.open({ dir, sources: counting, keepBytes, reserveBytes }) };
}

const lease = (store: LayerStore, ...of: readonly WrittenLayer[]): Promise<LeasedLayers> =>
  store.lease("test", sourceOf(of).image, new Budget(defaultLimits), never);

it("asks for what images share once, and never again after a restart", async () => {
  await using work = await scratch();
  const first = await open(work.dir);
  {
    using one = await lease(first.store, base, b, c);
    using two = await lease(first.store, base, b, d);
    expect(one.files[0]?.path).toBe(two.files[0]?.path);
  }
  await first.store[Symbol.asyncDispose]();
  expect(first.asked.toSorted()).toEqual([base, b, c, d].map(({ digest }) => digest).toSorted());
  const again = await open(work.dir);
  using kept = await lease(again.store, base, b, c, d);
  expect(again.asked).toEqual([]);
  expect(await Promise.all(kept.files.map(async ({ path }) => sha256(await readFile(path))))).toEqual(layers.map(({ diffId }) => diffId));
});

it("keeps every byte of names, attributes and numbers in its index", async () => {
  await using work = await scratch();
  const first = await open(work.dir);
  using made = await lease(first.store, base);
  await first.store[Symbol.asyncDispose]();
  const again = await open(work.dir);
  using kept = await lease(again.store, base);
  expect(kept.files).toEqual(made.files);
  expect(kept.files[0]?.entries[0]).toMatchObject({ name: "caf\xe9\xff", uid: 3_000_000_000, xattrs: new Map([["user.a", "\x00\xff\n"]]) });
});

it("takes a layer twice in one image", async () => {
  await using work = await scratch();
  const { store, asked } = await open(work.dir);
  await using _ = store;
  using leased = await lease(store, base, b, base);
  expect(leased.files).toHaveLength(3);
  expect(asked).toHaveLength(2);
});

it("removes at its opening what a crash left, and makes it again", async () => {
  await using work = await scratch();
  const first = await open(work.dir);
  (await lease(first.store, base, b))[Symbol.dispose]();
  await first.store[Symbol.asyncDispose]();
  const id = base.diffId.slice("sha256:".length);
  await writeFile(join(work.dir, `${id}.tar.0123456789ab.tmp`), "half");
  await writeFile(join(work.dir, `${"f".repeat(64)}.tar`), "not kept");
  await rm(join(work.dir, `${id}.json`));
  const again = await open(work.dir);
  expect(await readdir(work.dir)).toEqual(expect.not.arrayContaining([expect.stringMatching(/tmp$|^f{64}|^x/), `${id}.tar`]));
  (await lease(again.store, base, b))[Symbol.dispose]();
  await again.store[Symbol.asyncDispose]();
  expect(again.asked).toEqual([base.digest]);
});

it("makes a layer again whose file is shorter than it was", async () => {
  await using work = await scratch();
  const first = await open(work.dir);
  (await lease(first.store, b))[Symbol.dispose]();
  await first.store[Symbol.asyncDispose]();
  await writeFile(join(work.dir, `${b.diffId.slice("sha256:".length)}.tar`), "short");
  const again = await open(work.dir);
  using made = await lease(again.store, b);
  expect(sha256(await readFile(made.files[0]?.path ?? ""))).toBe(b.diffId);
  await again.store[Symbol.asyncDispose]();
});

it("keeps no more than it may, but all that is leased", async () => {
  await using work = await scratch();
  const { store } = await open(work.dir, 60_000);
  {
    using held = await lease(store, b);
    (await lease(store, c))[Symbol.dispose]();
    (await lease(store, d))[Symbol.dispose]();
    await store[Symbol.asyncDispose](); // all is kept that will be
    expect((await stat(held.files[0]?.path ?? "")).size).toBeGreaterThan(0);
  }
  const kept = (await readdir(work.dir)).filter((name) => name.endsWith(".tar"));
  expect(kept.length).toBeLessThan(3);
});

it("leaves the disk its reserve", async () => {
  await using work = await scratch();
  const { store } = await open(work.dir, 2 ** 30, 2 ** 60);
  await expect(lease(store, base)).rejects.toThrow("the node's disk is full: free some space or use another node");
  await store[Symbol.asyncDispose]();
  expect(await readdir(work.dir)).toEqual([]);
});

it("says so when its folder is taken away", async () => {
  await using work = await scratch();
  const { store } = await open(join(work.dir, "layers"));
  await rm(join(work.dir, "layers"), { recursive: true });
  await expect(lease(store, base)).rejects.toThrow(/is missing and the image ends too early/);
});

it("gives up what nobody waits for any more, and what one failure makes useless", async () => {
  await using work = await scratch();
  const hanging: ImageSources = {
    resolve: () => Promise.reject(new Error("not asked for")),
    openBlob: async (_reference, _image, { digest }) => {
      if (digest === b.digest) throw new Error("away");
      return new Readable({ read: () => undefined });
    },
  };
  await mkdir(work.dir, { recursive: true });
  const store = await LayerStore.open({ dir: work.dir, sources: hanging, keepBytes: 0, reserveBytes: 0 });
  const imageFrom = (...of: readonly WrittenLayer[]): ResolvedImage => sourceOf(of).image;
  await expect(store.lease("test", imageFrom(base, b), new Budget(defaultLimits), never)).rejects.toThrow("could not be read to its end");
  const leaving = new AbortController();
  const left = store.lease("test", imageFrom(c), new Budget(defaultLimits), leaving.signal);
  leaving.abort(new Error("left"));
  await expect(left).rejects.toThrow("left");
  await store[Symbol.asyncDispose]();
  expect(await readdir(work.dir)).toEqual([]);
});
