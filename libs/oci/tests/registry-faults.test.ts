// Pulls from a registry that misbehaves: they end right or with a clear error.
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { PitwallError } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { Budget, defaultLimits, LayerStore, openImageSources, type ImageSourceOptions } from "../src/index.ts";
import { imageOf, layerOf, sha256 } from "./support/layout-writer.ts";
import { hastyClock } from "./support/patience.ts";
import { blobPath, repository, startRegistry, type Fault, type RegistryServer } from "./support/registry-server.ts";
import { scratch } from "./support/scratch.ts";
import { tarOf } from "./support/tar-writer.ts";

const tar = tarOf([{ name: "data", content: randomBytes(400_000) }]);
const layer = layerOf(tar, "gzip");
const small = layerOf(tarOf([{ name: "small", content: Buffer.from("small") }]), "zstd");
const image = imageOf([layer, small]);
const length = layer.stored.length;

interface Pull {
  readonly registry: RegistryServer;
  readonly options?: Partial<ImageSourceOptions>;
  /** Registries beside it that are plain HTTP. */
  readonly others?: readonly string[];
  readonly host?: string;
  readonly times?: number;
}

/** "right" when every pull has the layers' tars, else the refusal. */
async function pull({ registry, options = {}, others = [], host = registry.host, times = 1 }: Pull): Promise<string> {
  await using work = await scratch();
  const sources = openImageSources({ imageRoots: [], insecureRegistries: [registry.host, ...others], clock: hastyClock(), ...options });
  await using store = await LayerStore.open({ dir: join(work.dir, "layers"), sources, keepBytes: 2 ** 30, reserveBytes: 0 });
  const signal = AbortSignal.timeout(30_000);
  const one = async (): Promise<string> => {
    const reference = `${host}/${repository}:v1`;
    const resolved = await sources.resolve(reference, signal);
    using lease = await store.lease(reference, resolved, new Budget(defaultLimits), signal);
    const read = await Promise.all(lease.files.map(async ({ path }) => sha256(await readFile(path))));
    expect(read).toEqual([layer.diffId, small.diffId]);
    return "right";
  };
  try {
    const all = await Promise.all(Array.from({ length: times }, one));
    return all[0] ?? "";
  } catch (error) {
    if (error instanceof PitwallError) return `${error.fault}: ${error.message}`;
    throw error;
  }
}

/** The fault, for the first `times` answers about the large layer. */
const onLayer = (fault: Fault, times = Number.POSITIVE_INFINITY) => ({
  fault: (path: string, count: number) => (path === blobPath(layer.stored) && count < times ? fault : undefined),
});

it("pulls", async () => {
  await using registry = await startRegistry(image);
  expect(await pull({ registry })).toBe("right");
});

it("downloads each layer once, however many ask", async () => {
  await using registry = await startRegistry(image);
  expect(await pull({ registry, times: 10 })).toBe("right");
  expect(registry.seen.filter(({ path }) => path.includes("/blobs/") && !path.endsWith(sha256(image.config)))).toHaveLength(2);
});

it.each([0, 10, 20, 30, 40, 50, 60, 70, 80, 90])("takes up again a layer that is cut at %i %%", async (percent) => {
  const at = Math.floor((length * percent) / 100);
  await using registry = await startRegistry(image, onLayer({ kind: "cut", at }, 1));
  expect(await pull({ registry })).toBe("right");
  const ranges = registry.seen.filter(({ path }) => path.endsWith(layer.digest)).map(({ range }) => range);
  expect(ranges.length).toBeGreaterThan(1);
  // It goes on from what arrived, and what arrived is no more than what was sent.
  for (const range of ranges.slice(1)) expect(Number(/^bytes=(\d+)-$/.exec(range ?? "bytes=0-")?.[1])).toBeLessThanOrEqual(at);
});

it("takes up again a layer that is cut at every tenth of it", async () => {
  await using registry = await startRegistry(image, {
    fault: (path, count) =>
      path === blobPath(layer.stored) && count < 9 ? { kind: "cut", at: Math.floor((length * (count + 1)) / 10) } : undefined,
  });
  expect(await pull({ registry })).toBe("right");
});

it("takes up again from a registry that knows no ranges", async () => {
  await using registry = await startRegistry(image, {
    fault: (path, count) =>
      path !== blobPath(layer.stored) ? undefined : count === 0 ? { kind: "cut", at: length >> 1 } : { kind: "no-ranges" },
  });
  expect(await pull({ registry })).toBe("right");
});

it.each<[string, Fault, RegExp]>([
  ["cuts at the same place for ever", { kind: "cut", at: 1000 }, /unavailable: the registry .* cannot be reached/],
  ["always answers 500", { kind: "status", status: 500 }, /unavailable: the registry .* cannot be reached: it answers 500/],
  ["always answers 503", { kind: "status", status: 503 }, /unavailable: .* it answers 503/],
  ["always answers 429", { kind: "status", status: 429 }, /unavailable: the registry .* asks to slow down; try again later/],
  [
    "wants us back in a day",
    { kind: "status", status: 429, headers: { "retry-after": "86400" } },
    /unavailable: the registry .* asks to come back in 86400 s/,
  ],
  ["lacks the layer", { kind: "status", status: 404 }, /not-found: image .* was not found/],
  ["forbids the layer", { kind: "status", status: 403 }, /denied: image: the registry .* does not let anybody read team\/app/],
  ["answers 418", { kind: "status", status: 418 }, /unavailable: .* it answers 418/],
  ["announces a longer layer", { kind: "length", length: length + 7 }, /corrupt: layer .* has \d+ bytes, and the registry sends \d+/],
  ["announces a shorter layer", { kind: "length", length: length - 7 }, /corrupt: layer .* has \d+ bytes, and the registry sends \d+/],
  ["sends other bytes", { kind: "other", content: Buffer.concat([layer.stored.subarray(0, -1), Buffer.from("?")]) }, /corrupt: /],
  ["redirects for ever", { kind: "redirect", to: "?again" }, /unavailable: .* it redirects too often/],
  ["redirects to nowhere", { kind: "redirect", to: "http://" }, /unavailable: .* it redirects to no address/],
  ["redirects to a file", { kind: "redirect", to: "file:///etc/passwd" }, /unavailable: .* plain HTTP is not allowed/],
])("says so when the registry %s", async (_, fault, message) => {
  await using registry = await startRegistry(image, onLayer(fault));
  expect(await pull({ registry })).toMatch(message);
});

it("says so when a part is another than it asked for", async () => {
  await using registry = await startRegistry(image, {
    fault: (path, count) =>
      path !== blobPath(layer.stored) ? undefined : count === 0 ? { kind: "cut", at: length >> 1 } : { kind: "wrong-range" },
  });
  expect(await pull({ registry })).toMatch(/corrupt: the registry sends another part of layer .* than it was asked for/);
});

it.each([429, 500, 502, 503, 504])("tries again after %i", async (status) => {
  await using registry = await startRegistry(image, { fault: (_, count) => (count < 2 ? { kind: "status", status } : undefined) });
  expect(await pull({ registry })).toBe("right");
});

it("waits as long as it is asked to, in seconds or until a date", async () => {
  for (const [header, atLeastMs] of [
    ["7", 7000],
    [new Date(Date.now() + 20_000).toUTCString(), 15_000],
  ] as const) {
    const clock = hastyClock();
    await using registry = await startRegistry(image, onLayer({ kind: "status", status: 429, headers: { "retry-after": header } }, 1));
    expect(await pull({ registry, options: { clock } })).toBe("right");
    expect(Math.max(...clock.waits)).toBeGreaterThanOrEqual(atLeastMs);
  }
});

it("gives up a connection that drips, and says so when all do", async () => {
  await using registry = await startRegistry(image, onLayer({ kind: "pieces", size: 16 }));
  // Each piece that arrives finds the clock 20 s later: far below the slowest that is waited for.
  expect(await pull({ registry, options: { clock: hastyClock(20_000) } })).toMatch(
    /unavailable: the registry .* cannot be reached: 64 connections were not enough/,
  );
});

it("takes small pieces when they come quickly", async () => {
  await using registry = await startRegistry(image, onLayer({ kind: "pieces", size: 2000 }));
  expect(await pull({ registry })).toBe("right");
});

it("ends at once when it is told to", async () => {
  await using registry = await startRegistry(image);
  const sources = openImageSources({ imageRoots: [], insecureRegistries: [registry.host] });
  await expect(sources.resolve(`${registry.host}/${repository}:v1`, AbortSignal.abort(new Error("told to")))).rejects.toThrow("told to");
});

it("asks mirrors first, and the registry for what they lack, refuse or have wrong", async () => {
  await using registry = await startRegistry(image);
  await using good = await startRegistry(image);
  await using empty = await startRegistry(image, { fault: () => ({ kind: "status", status: 404 }) });
  await using liar = await startRegistry(image, { fault: () => ({ kind: "other", content: Buffer.from("{}") }) });
  const others = [good.host, empty.host, liar.host];
  const mirrored = (...hosts: string[]): Partial<ImageSourceOptions> => ({ mirrors: new Map([[registry.host, hosts]]) });
  expect(await pull({ registry, others, options: mirrored(good.host) })).toBe("right");
  expect(registry.seen).toHaveLength(0);
  expect(await pull({ registry, others, options: mirrored("127.0.0.1:1", empty.host, liar.host) })).toBe("right");
  expect(registry.seen.length).toBeGreaterThan(0);
});
