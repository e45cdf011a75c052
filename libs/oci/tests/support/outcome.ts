// What becomes of layers: a tree, or a refusal that leaves nothing behind.
import { readdir, rm } from "node:fs/promises";
import { PitwallError } from "@pitwall/runtime";
import { expect } from "vitest";
import { Budget, defaultLimits, flatten, LayerStore, listFiles, type FlattenLimits } from "../../src/index.ts";
import type { WrittenLayer } from "./layout-writer.ts";
import { sourceOf } from "./unpack.ts";

/** As promised for hostile images. */
export const maxRefusalMs = 5000;

/** Each entry as `type path`, with what a hard or symbolic link names. */
export async function treeOfLayers(dir: string, layers: readonly WrittenLayer[], limits: FlattenLimits = defaultLimits): Promise<string[]> {
  const { sources, image } = sourceOf(layers);
  const signal = AbortSignal.timeout(30_000);
  await using store = await LayerStore.open({ dir, sources, keepBytes: 2 ** 30, reserveBytes: 0 });
  using lease = await store.lease("test", image, new Budget(limits), signal);
  const lines: string[] = [];
  for await (const { path, type, linkname } of listFiles(flatten(lease.files, limits, signal))) {
    if (path !== ".") lines.push(`${type} ${path}${linkname === undefined ? "" : ` -> ${linkname}`}`);
  }
  return lines;
}

/** The refusal, which must be ours, in time, and leave the folder as it was. */
export async function refusalOf(dir: string, layers: readonly WrittenLayer[], limits: FlattenLimits = defaultLimits): Promise<string> {
  const started = performance.now();
  const error: unknown = await treeOfLayers(dir, layers, limits).then(
    (tree) => `taken: ${tree.join(", ")}`,
    (reason: unknown) => reason,
  );
  expect(performance.now() - started).toBeLessThan(maxRefusalMs);
  if (!(error instanceof PitwallError)) throw new Error(`not refused in our words: ${String(error)}`, { cause: error });
  // What was good may stay; what was refused may not.
  for (const name of await readdir(dir)) expect(name).toMatch(/^[0-9a-f]{64}\.(?:tar|json)$/);
  await rm(dir, { recursive: true, force: true });
  return `${error.fault}: ${error.message}`;
}
