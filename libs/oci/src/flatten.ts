// Merges layers into one tar stream, without unpacking anything: first the tree of all layers, then the content that won, in the order
// in which it lies on disk.
import { open, type FileHandle } from "node:fs/promises";
import { Readable } from "node:stream";
import { malformed } from "./image-error.ts";
import type { LayerFile } from "./layer-file.ts";
import { Budget, type FlattenLimits } from "./limits.ts";
import { MergedTree, type Inode } from "./merged-tree.ts";
import { encodeHeader, padding, type TarEntry } from "./tar-header.ts";

/** Content of one layer that is in the tree: the first path carries it, the others are hard links to it. */
interface Winner {
  readonly inode: Inode;
  readonly paths: [string, ...string[]];
}

const pieceBytes = 512 * 1024;

/**
 * One tar of the merged tree of `layers` (lowest first): folders, links and devices first, parents before children, then files.
 * The stream fails with `corrupt` (format) or `exhausted` (limits) before it emits anything.
 */
export function flatten(layers: readonly LayerFile[], limits: FlattenLimits, signal: AbortSignal): Readable {
  return Readable.from(inPieces(merged(layers, limits)), { objectMode: false, highWaterMark: pieceBytes, signal });
}

async function* merged(layers: readonly LayerFile[], limits: FlattenLimits): AsyncGenerator<Buffer> {
  const tree = mergeLayers(layers, limits);
  const winners = layers.map(() => new Map<number, Winner>());
  for (const { path, node } of tree.walk()) {
    if (!("ordinal" in node) || node.entry.type !== "file") yield encodeHeader(named(node.entry, path === "" ? "./" : path));
    else {
      const known = winners[node.layer]?.get(node.ordinal);
      if (known === undefined) winners[node.layer]?.set(node.ordinal, { inode: node, paths: [path] });
      else known.paths.push(path);
    }
  }
  for (const [at, layer] of layers.entries()) {
    const wanted = [...(winners[at]?.values() ?? [])].toSorted((a, b) => a.inode.ordinal - b.inode.ordinal);
    if (wanted.length > 0) yield* contents(layer, wanted);
  }
  yield Buffer.alloc(1024);
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

async function* contents(layer: LayerFile, wanted: readonly Winner[]): AsyncGenerator<Buffer> {
  const file = await open(layer.path, "r");
  try {
    const window = new Window(file);
    for (const { inode, paths } of wanted) {
      const [first, ...others] = paths;
      const { size } = inode.entry;
      yield encodeHeader(named(inode.entry, first));
      for (let done = 0; done < size;) {
        const part = await window.read(inode.offset + done, size - done);
        yield part;
        done += part.length;
      }
      if (padding(size) > 0) yield Buffer.alloc(padding(size));
      for (const path of others)
        yield encodeHeader({ ...named(inode.entry, path), type: "link", linkname: first, size: 0, xattrs: undefined });
    }
  } finally {
    await file.close();
  }
}

/** Reads a file forwards in large pieces, of which callers take small ones. */
class Window {
  readonly #file: FileHandle;
  #start = 0;
  #held: Buffer = Buffer.alloc(0);

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /** 1 to `most` bytes at `position`. */
  async read(position: number, most: number): Promise<Buffer> {
    let from = position - this.#start;
    if (from < 0 || from >= this.#held.length) {
      // A new buffer each time: the last one may still be on its way to the reader.
      const { buffer, bytesRead } = await this.#file.read(Buffer.allocUnsafe(pieceBytes), 0, pieceBytes, position);
      if (bytesRead === 0) throw malformed("a layer changed while it was read");
      this.#start = position;
      this.#held = buffer.subarray(0, bytesRead);
      from = 0;
    }
    return this.#held.subarray(from, from + most);
  }
}

/** The same bytes in larger chunks: one chunk per header would cost more than its content. */
async function* inPieces(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let size = 0;
  for await (const part of source) {
    parts.push(part);
    size += part.length;
    if (size < pieceBytes) continue;
    yield Buffer.concat(parts);
    parts = [];
    size = 0;
  }
  if (size > 0) yield Buffer.concat(parts);
}

/** The entry under its path in the tree, with the attributes that squashfs holds, but none that the guest's overlay takes for its own. */
function named(entry: TarEntry, name: string): TarEntry {
  if (entry.xattrs === undefined) return { ...entry, name };
  const xattrs = new Map(
    [...entry.xattrs].filter(([key]) => /^(?:user|security|trusted)\./.test(key) && !/^(?:user|trusted)\.overlay\./.test(key)),
  );
  return { ...entry, name, xattrs };
}
