// kill -9 at each step of a pull: the next one ends right, and nothing half done is used.
import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { Budget, defaultLimits, LayerStore } from "../src/index.ts";
import { imageOf, layerOf, sha256 } from "./support/layout-writer.ts";
import { blobPath, repository, startRegistry } from "./support/registry-server.ts";
import { scratch } from "./support/scratch.ts";
import { tarOf } from "./support/tar-writer.ts";
import { sourceOf } from "./support/unpack.ts";

const program = fileURLToPath(new URL("support/pull.ts", import.meta.url));
const layers = [
  layerOf(tarOf([{ name: "a", content: randomBytes(900_000) }]), "gzip"),
  layerOf(tarOf([{ name: "b", content: randomBytes(300_000) }]), "zstd"),
];
const image = imageOf(layers);
const pieces = 8;

it("ends right after it was killed at each of 12 steps", { timeout: 120_000 }, async () => {
  await using work = await scratch();
  const pull: { child?: ChildProcess; killAt: number; steps: number } = { killAt: 0, steps: 0 };
  const step = (): void => {
    if (++pull.steps === pull.killAt) pull.child?.kill("SIGKILL");
  };
  await using registry = await startRegistry(image, {
    fault: (path) => {
      step(); // manifest, configuration, two layers
      const large = path === blobPath(layers[0]?.stored ?? Buffer.alloc(0));
      return large ? { kind: "pieces", size: Math.ceil((layers[0]?.stored.length ?? 0) / pieces), onPiece: step } : undefined;
    },
  });
  const run = (): Promise<number | null> => {
    pull.steps = 0;
    const child = spawn(process.execPath, [program, `${registry.host}/${repository}:v1`, registry.host, work.dir], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    pull.child = child;
    return new Promise((resolve) => child.once("close", resolve));
  };
  for (pull.killAt = 1; pull.killAt <= 4 + pieces; pull.killAt++) expect(await run(), `killed at step ${pull.killAt}`).toBeNull();
  pull.killAt = 0;
  expect(await run()).toBe(0);
  expect((await readdir(join(work.dir, "layers"))).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  expect(await readdir(work.dir)).toContain("image.sqfs");
  // What is kept is right, and is not asked for again.
  const { sources, image: resolved } = sourceOf(layers);
  await using store = await LayerStore.open({
    dir: join(work.dir, "layers"),
    sources: { ...sources, openBlob: () => Promise.reject(new Error("asked again")) },
    keepBytes: 2 ** 30,
    reserveBytes: 0,
  });
  using lease = await store.lease("test", resolved, new Budget(defaultLimits), AbortSignal.timeout(20_000));
  expect(await Promise.all(lease.files.map(async ({ path }) => sha256(await readFile(path))))).toEqual(layers.map(({ diffId }) => diffId));
});
