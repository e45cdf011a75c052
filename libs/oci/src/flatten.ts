// Merges layers into one tar stream, without unpacking anything: the tree of all layers decides, and content comes in the order in which
// it lies on disk. Files that are certain to be in the image may go out before the last layer is there.
import { open } from "node:fs/promises";
import { PassThrough, type Readable } from "node:stream";
import { CertainFiles } from "./certain-files.ts";
import type { LayerFile } from "./layer-index.ts";
import type { LayerProgress } from "./layer-progress.ts";
import { Budget, type FlattenLimits } from "./limits.ts";
import { MergedTree, type Inode } from "./merged-tree.ts";
import type { TarEntry } from "./tar-header.ts";
import { sinkOf, TarOutput, Window } from "./tar-output.ts";

/** Content of one layer that is in the tree, under one name or several. */
interface Winner {
  readonly inode: Inode;
  readonly paths: [string, ...string[]];
}

/** Per layer, the path under which the content of an entry, by its position, has gone out. */
type Written = readonly Map<number, string>[];

/** What went out early is not what the whole tree says: all has to be written again, from complete layers. */
export class WrittenTooEarly extends Error {}

/**
 * One tar of the merged tree of `layers` (lowest first): folders, links and devices first, parents before children, then files.
 * The stream fails with `corrupt` (format) or `exhausted` (limits) before it emits anything.
 */
export function flatten(layers: readonly LayerFile[], limits: FlattenLimits, signal: AbortSignal): Readable {
  const stream = new PassThrough({ signal });
  const write = sinkOf(stream);
  writeMerged(layers, limits, new TarOutput((piece) => write(Buffer.from(piece)))).then(
    () => stream.end(),
    (error: unknown) => stream.destroy(error instanceof Error ? error : new Error(String(error))),
  );
  return stream;
}

/** Writes the tar of complete layers. Throws as {@link flatten} fails. */
export async function writeMerged(layers: readonly LayerFile[], limits: FlattenLimits, output: TarOutput): Promise<void> {
  await writeRest(
    layers,
    limits,
    output,
    layers.map(() => new Map<number, string>()),
  );
}

/**
 * Writes the tar of layers that are still coming: first files that seem certain, top layer first, then the rest. `complete` resolves with
 * all layers or rejects with why there are none. Throws {@link WrittenTooEarly}, which is rare, and as {@link flatten} fails.
 */
export async function writeWhileComing(
  layers: readonly LayerProgress[],
  complete: Promise<readonly LayerFile[]>,
  limits: FlattenLimits,
  output: TarOutput,
): Promise<void> {
  const written = layers.map(() => new Map<number, string>());
  const certain = new CertainFiles();
  const names = new Names();
  for (const [at, layer] of [...layers.entries()].toReversed()) {
    if (!(await writeCertain(layer, certain, names, written[at] ?? new Map<number, string>(), output))) break;
    certain.cover(layer.entries);
  }
  await writeRest(await complete, limits, output, written);
}

/** False when the layer fails. */
async function writeCertain(
  layer: LayerProgress,
  certain: CertainFiles,
  names: Names,
  written: Map<number, string>,
  output: TarOutput,
): Promise<boolean> {
  while (layer.state === "running" && layer.entries.length === 0) await layer.changed();
  const file = await layer.open();
  if (!file) return false;
  try {
    const window = new Window(file);
    for (let ordinal = 0; ; ordinal++) {
      while (ordinal >= layer.entries.length && layer.state === "running") await layer.changed();
      const entry = layer.entries[ordinal];
      if (entry === undefined) return layer.state === "complete";
      const path = certain.pathOf(entry);
      if (path === undefined) continue;
      names.add(path);
      written.set(ordinal, path);
      const start = layer.offsets[ordinal] ?? 0;
      await output.header(named(entry, path));
      for (let at = start; at < start + entry.size;) {
        while (layer.writtenBytes <= at && layer.state === "running") await layer.changed();
        if (layer.writtenBytes <= at) return false;
        const part = await window.read(at, start + entry.size - at, layer.writtenBytes);
        await output.content(part);
        at += part.length;
      }
      await output.padding(entry.size);
    }
  } finally {
    await file.close();
  }
}

/** Names that have gone out: one that comes again, or that is a file and a folder, shows that it was too early for the first. */
class Names {
  readonly #files = new Set<string>();
  readonly #folders = new Set<string>();

  add(path: string): void {
    if (this.#files.has(path) || this.#folders.has(path)) throw new WrittenTooEarly();
    this.#files.add(path);
    for (let slash = path.lastIndexOf("/"); slash > 0; slash = path.lastIndexOf("/", slash - 1)) {
      const folder = path.slice(0, slash);
      if (this.#folders.has(folder)) return;
      if (this.#files.has(folder)) throw new WrittenTooEarly();
      this.#folders.add(folder);
    }
  }
}

async function writeRest(layers: readonly LayerFile[], limits: FlattenLimits, output: TarOutput, written: Written): Promise<void> {
  const tree = mergeLayers(layers, limits);
  const winners = layers.map(() => new Map<number, Winner>());
  for (const { path, node } of tree.walk()) {
    if (!("ordinal" in node) || node.entry.type !== "file") await output.header(named(node.entry, path === "" ? "./" : path));
    else {
      const known = winners[node.layer]?.get(node.ordinal);
      if (known === undefined) winners[node.layer]?.set(node.ordinal, { inode: node, paths: [path] });
      else known.paths.push(path);
    }
  }
  for (const [at, early] of written.entries()) {
    for (const [ordinal, path] of early) if (!winners[at]?.get(ordinal)?.paths.includes(path)) throw new WrittenTooEarly();
  }
  for (const [at, layer] of layers.entries()) {
    const wanted = [...(winners[at]?.values() ?? [])].toSorted((a, b) => a.inode.ordinal - b.inode.ordinal);
    if (wanted.length > 0) await writeContents(layer, wanted, written[at] ?? new Map<number, string>(), output);
  }
  await output.end();
}

/** The tree of all layers. Throws `corrupt` and `exhausted`. */
function mergeLayers(layers: readonly LayerFile[], limits: FlattenLimits): MergedTree {
  const budget = new Budget(limits);
  const tree = new MergedTree(budget);
  for (const [at, { entries, offsets, sizeBytes }] of layers.entries()) {
    budget.takeBytes(sizeBytes);
    for (const [ordinal, entry] of entries.entries()) tree.apply(entry, at, { ordinal, offset: offsets[ordinal] ?? 0 });
  }
  return tree;
}

async function writeContents(
  layer: LayerFile,
  wanted: readonly Winner[],
  written: ReadonlyMap<number, string>,
  output: TarOutput,
): Promise<void> {
  const file = await open(layer.path, "r");
  try {
    const window = new Window(file);
    for (const { inode, paths } of wanted) {
      const { entry, ordinal, offset } = inode;
      const first = written.get(ordinal) ?? paths[0];
      if (!written.has(ordinal)) {
        await output.header(named(entry, first));
        for (let at = offset; at < offset + entry.size;) {
          const part = await window.read(at, offset + entry.size - at, layer.sizeBytes);
          await output.content(part);
          at += part.length;
        }
        await output.padding(entry.size);
      }
      for (const path of paths) {
        if (path !== first) await output.header({ ...named(entry, path), type: "link", linkname: first, size: 0, xattrs: undefined });
      }
    }
  } finally {
    await file.close();
  }
}

/** The entry under its path in the tree, with the attributes that squashfs holds, but none that the guest's overlay takes for its own. */
function named(entry: TarEntry, name: string): TarEntry {
  if (entry.xattrs === undefined) return { ...entry, name };
  const xattrs = new Map(
    [...entry.xattrs].filter(([key]) => /^(?:user|security|trusted)\./.test(key) && !/^(?:user|trusted)\.overlay\./.test(key)),
  );
  return { ...entry, name, xattrs };
}
