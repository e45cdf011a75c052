// Layers as tars: the difference of two file trees, and one written by hand.
import { createHash, type Hash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { extract, pack, type Header, type Pack } from "tar-stream";

export interface Layer {
  /** Hex SHA-256 of the tar. */
  readonly diffId: string;
  /** Hex SHA-256 and size of the compressed file at `path`. */
  readonly digest: string;
  readonly size: number;
  readonly path: string;
}

interface Entry {
  readonly header: Header;
  readonly content: Buffer;
}

/** One date for all, so that the same sources make the same image. */
export const imageDate = new Date("2026-01-01T00:00:00Z");

/** Writes the entries that `fill` adds as a gzipped tar. */
export async function writeLayer(path: string, fill: (tar: Pack) => Promise<void>): Promise<Layer> {
  const tar = pack();
  const raw = createHash("sha256");
  const stored = createHash("sha256");
  let size = 0;
  const filling = fill(tar).then(() => tar.finalize());
  filling.catch((error: unknown) => tar.destroy(error instanceof Error ? error : new Error(String(error))));
  await pipeline(
    Readable.from(tar),
    tapped(raw),
    createGzip({ level: 6 }),
    tapped(stored, (bytes) => {
      size += bytes;
    }),
    createWriteStream(path),
  );
  await filling;
  return { diffId: raw.digest("hex"), digest: stored.digest("hex"), size, path };
}

function tapped(hash: Hash, count: (bytes: number) => void = () => undefined): (source: AsyncIterable<Buffer>) => AsyncGenerator<Buffer> {
  return async function* tap(source) {
    for await (const chunk of source) {
      hash.update(chunk);
      count(chunk.length);
      yield chunk;
    }
  };
}

/** Adds one entry; resolves when the tar has taken it. */
export async function add(tar: Pack, header: Partial<Header> & Pick<Header, "name">, content: Buffer = Buffer.alloc(0)): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    tar.entry({ ...header, mtime: imageDate, size: content.length }, content, (error) => (error ? reject(error) : resolve()));
  });
}

/** Adds a copy of a whole tar. */
export async function addAll(tar: Pack, file: string): Promise<void> {
  for await (const { header, content } of entries(file)) await add(tar, header, content);
}

/** Adds what `upper` has and `lower` has not, or has differently, and whiteouts for what it lacks. */
export async function addDifference(tar: Pack, lower: string, upper: string): Promise<void> {
  const before = new Map<string, string>();
  for await (const entry of entries(lower)) before.set(entry.header.name, fingerprint(entry));
  const after = new Set<string>();
  const changed: Entry[] = [];
  for await (const entry of entries(upper)) {
    after.add(entry.header.name);
    if (before.get(entry.header.name) !== fingerprint(entry)) changed.push(entry);
  }
  const gone = [...before.keys()].filter((name) => !after.has(name));
  for (const name of topmost(gone)) await add(tar, { name: whiteoutOf(name), type: "file", mode: 0o644 });
  for (const { header, content } of changed) await add(tar, header, content);
}

/** A folder's whiteout hides all in it. */
function topmost(names: readonly string[]): string[] {
  const all = new Set(names.map(bare));
  return [...all].filter((name) => {
    const parts = name.split("/");
    return !parts.some((_, at) => at > 0 && all.has(parts.slice(0, at).join("/")));
  });
}

/** `.wh.NAME` beside what it hides (image-spec, layer.md). */
function whiteoutOf(name: string): string {
  const at = bare(name).lastIndexOf("/") + 1;
  return `${bare(name).slice(0, at)}.wh.${bare(name).slice(at)}`;
}

const bare = (name: string): string => name.replace(/^\.\//, "").replace(/\/$/, "");

async function* entries(file: string): AsyncGenerator<Entry> {
  const reader = extract();
  const reading = pipeline(createReadStream(file), reader);
  reading.catch(() => undefined); // reaches the loop through the reader
  for await (const entry of reader) {
    const parts: Buffer[] = [];
    for await (const chunk of entry) parts.push(chunk as Buffer); // no encoding is set
    yield { header: entry.header, content: Buffer.concat(parts) };
  }
  await reading;
}

function fingerprint({ header, content }: Entry): string {
  const { type, mode, uid, gid, linkname, devmajor, devminor } = header;
  return JSON.stringify([type, mode, uid, gid, linkname, devmajor, devminor, createHash("sha256").update(content).digest("hex")]);
}
