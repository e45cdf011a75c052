// Merges layers into one tar stream, without unpacking anything.
// Two passes: the first reads every layer into a MergedTree and checks its digest; the second streams the content that won.
import { Readable } from "node:stream";
import { malformed } from "./image-error.ts";
import { inflate, type StoredLayer } from "./inflate.ts";
import type { FlattenLimits } from "./limits.ts";
import { MergedTree } from "./merged-tree.ts";
import { encodeHeader, padding, type TarEntry } from "./tar-header.ts";
import { readTar } from "./tar-reader.ts";

export type { StoredLayer };

/** Paths of one content, in the order of the tree; the first carries it, the others are hard links. */
type Winners = Map<number, { entry: TarEntry; paths: [string, ...string[]] }>;

/**
 * One tar of the merged tree of `layers` (lowest first): folders, links and devices first, parents before children, then files.
 * The stream fails with `corrupt` (digest, format) or `exhausted` (limits); nothing is emitted before all layers are checked.
 */
export function flatten(layers: readonly StoredLayer[], limits: FlattenLimits, signal: AbortSignal): Readable {
  return Readable.from(merged(layers, limits, signal), { objectMode: false, highWaterMark: 512 * 1024, signal });
}

async function* merged(layers: readonly StoredLayer[], limits: FlattenLimits, signal: AbortSignal): AsyncGenerator<Buffer> {
  const tree = await readTree(layers, limits, signal);
  const winners: Winners[] = layers.map(() => new Map());
  for (const { path, node } of tree.walk()) {
    if (node.entry.type !== "file") yield encodeHeader(named(node.entry, path === "" ? "./" : path));
    else if ("ordinal" in node) {
      const known = winners[node.layer]?.get(node.ordinal);
      if (known === undefined) winners[node.layer]?.set(node.ordinal, { entry: node.entry, paths: [path] });
      else known.paths.push(path);
    }
  }
  const budget = { bytesLeft: limits.maxBytes, maxBytes: limits.maxBytes };
  for (const [at, layer] of layers.entries()) {
    const wanted = winners[at];
    if (wanted !== undefined && wanted.size > 0) yield* contents(inflate(layer, budget, signal), wanted);
  }
  yield Buffer.alloc(1024);
}

async function readTree(layers: readonly StoredLayer[], limits: FlattenLimits, signal: AbortSignal): Promise<MergedTree> {
  const tree = new MergedTree(limits);
  const budget = { bytesLeft: limits.maxBytes, maxBytes: limits.maxBytes };
  for (const [at, layer] of layers.entries()) {
    let ordinal = 0;
    for await (const { entry, offset } of readTar(inflate(layer, budget, signal))) tree.apply(entry, at, { ordinal: ordinal++, offset });
  }
  return tree;
}

async function* contents(tar: AsyncIterable<Buffer>, wanted: Winners): AsyncGenerator<Buffer> {
  let ordinal = 0;
  let left = wanted.size;
  for await (const { entry, body } of readTar(tar)) {
    const winner = wanted.get(ordinal++);
    if (winner === undefined) continue;
    if (entry.type !== "file" || entry.size !== winner.entry.size) throw malformed("a layer changed while it was read");
    const [first, ...others] = winner.paths;
    yield encodeHeader(named(winner.entry, first));
    yield* body();
    if (padding(entry.size) > 0) yield Buffer.alloc(padding(entry.size));
    for (const path of others)
      yield encodeHeader({ ...named(winner.entry, path), type: "link", linkname: first, size: 0, xattrs: undefined });
    if (--left === 0) return;
  }
  throw malformed("a layer changed while it was read");
}

/** The entry under its path in the tree, without attributes that the guest's overlay would take for its own. */
function named(entry: TarEntry, name: string): TarEntry {
  if (entry.xattrs === undefined) return { ...entry, name };
  const xattrs = new Map(
    [...entry.xattrs].filter(([key]) => /^(?:user|security|trusted)\./.test(key) && !/^(?:user|trusted)\.overlay\./.test(key)),
  );
  return { ...entry, name, xattrs };
}
