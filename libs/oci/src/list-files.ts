// What a tar holds, with a hash of each file: for comparing trees.
import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import type { EntryType } from "./tar-header.ts";
import { readTar } from "./tar-reader.ts";

/** One entry. `path` is UTF-8 without a leading `/` or `./`, the root is `.`; a hard link has hash and size of its target. */
export interface ListedFile {
  path: string;
  type: EntryType;
  sha256?: string;
  linkname?: string;
  mode: number;
  uid: number;
  gid: number;
  size: number;
}

/** The entries of a tar in order. Throws `corrupt` when it is no tar. */
export async function* listFiles(tar: Readable): AsyncGenerator<ListedFile> {
  const hashes = new Map<string, { sha256: string; size: number }>();
  // A byte stream without an encoding yields buffers.
  for await (const { entry, body } of readTar(tar as AsyncIterable<Buffer>)) {
    const path =
      readable(entry.name)
        .replace(/^(?:\.?\/)+/, "")
        .replace(/\/$/, "") || ".";
    const { type, mode, uid, gid } = entry;
    const attributes = { path, type, mode, uid, gid, ...(entry.linkname !== "" && { linkname: readable(entry.linkname) }) };
    if (type === "file") {
      const hash = createHash("sha256");
      for await (const chunk of body()) hash.update(chunk);
      const content = { sha256: hash.digest("hex"), size: entry.size };
      hashes.set(path, content);
      yield { ...attributes, ...content };
    } else if (type === "link") yield { ...attributes, ...(hashes.get(readable(entry.linkname)) ?? { size: 0 }) };
    else yield { ...attributes, size: 0 };
  }
}

const readable = (latin1: string): string => Buffer.from(latin1, "latin1").toString("utf8");
