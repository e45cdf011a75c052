// The list of a layer's entries as a file, so that a layer that is there need not be read again.
import { readFile } from "node:fs/promises";
import type { EntryType, TarEntry } from "./tar-header.ts";

/** What is in a tar. Two lists, because an object around each pair would be a fifth more memory. */
export interface LayerIndex {
  /** In order. */
  readonly entries: readonly TarEntry[];
  /** Bytes of the tar before the content of each entry. */
  readonly offsets: readonly number[];
  /** Bytes of the whole tar. */
  readonly sizeBytes: number;
}

/** A plain tar on disk. */
export interface LayerFile extends LayerIndex {
  readonly path: string;
}

/** Counts up when what is stored changes; others are made again. */
const edition = 1;

type Line = readonly [
  ...[type: EntryType, name: string, linkname: string, mode: number, uid: number, gid: number, mtime: number, size: number],
  ...[devMajor: number, devMinor: number, xattrs: readonly (readonly [string, string])[] | 0, offset: number],
];

/** The file's content. */
export function encodeIndex({ sizeBytes, entries, offsets }: LayerIndex): string {
  const lines = entries.map((e, at) => {
    const xattrs = e.xattrs === undefined ? 0 : [...e.xattrs];
    const place: Line = [
      e.type,
      e.name,
      e.linkname,
      e.mode,
      e.uid,
      e.gid,
      e.mtime,
      e.size,
      e.devMajor,
      e.devMinor,
      xattrs,
      offsets[at] ?? 0,
    ];
    return JSON.stringify(place);
  });
  return [JSON.stringify({ edition, sizeBytes, count: entries.length }), ...lines].join("\n");
}

/** undefined when there is no such file, or one of another edition. */
export async function readIndex(path: string): Promise<LayerIndex | undefined> {
  const text = await readFile(path, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  const [first = "{}", ...lines] = text.split("\n");
  const head = JSON.parse(first) as { edition?: number; sizeBytes: number; count: number }; // written by encodeIndex
  if (head.edition !== edition || head.count !== lines.length) return undefined;
  const entries: TarEntry[] = [];
  const offsets: number[] = [];
  for (const line of lines) {
    const [type, name, linkname, mode, uid, gid, mtime, size, devMajor, devMinor, xattrs, offset] = JSON.parse(line) as Line; // as above
    entries.push({
      name,
      type,
      linkname,
      mode,
      uid,
      gid,
      mtime,
      size,
      devMajor,
      devMinor,
      xattrs: xattrs === 0 ? undefined : new Map(xattrs),
    });
    offsets.push(offset);
  }
  return { sizeBytes: head.sizeBytes, entries, offsets };
}
