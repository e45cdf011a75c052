// One layer as a plain tar on disk, and the list of what is in it. It is written in one pass: verified, decompressed and indexed while
// its bytes stream, so that nothing of it is read twice and memory does not grow with it.
import { open, statfs, type FileHandle } from "node:fs/promises";
import { PitwallError } from "@pitwall/runtime";
import type { LayerDescriptor } from "./image.ts";
import { inflate, verified } from "./inflate.ts";
import type { Budget } from "./limits.ts";
import type { TarEntry } from "./tar-header.ts";
import { readTar } from "./tar-reader.ts";

/** An entry, and where its content begins in the tar, in bytes. */
export interface IndexedEntry {
  readonly entry: TarEntry;
  readonly offset: number;
}

/** A plain tar and its entries in order. */
export interface LayerFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly entries: readonly IndexedEntry[];
}

/** Free space is looked at each time so much was written. */
const spaceCheckBytes = 64 * 2 ** 20;

/**
 * Writes the tar of a layer to `path`, which must not exist, from its stored bytes. Leaves `reserveBytes` of the disk free.
 * Throws `corrupt` (digest, size, format), `exhausted` (limits, DISK_FULL) and what `blob` throws; the file is then the caller's to remove.
 */
export async function writeLayerFile(
  blob: AsyncIterable<Buffer>,
  layer: LayerDescriptor,
  path: string,
  options: { readonly budget: Budget; readonly reserveBytes: number; readonly signal: AbortSignal },
): Promise<LayerFile> {
  const { budget, reserveBytes, signal } = options;
  const entries: IndexedEntry[] = [];
  const file = await open(path, "wx", 0o600);
  let sizeBytes = 0;
  async function* kept(tar: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of tar) {
      if (Math.floor(sizeBytes / spaceCheckBytes) !== Math.floor((sizeBytes - chunk.length) / spaceCheckBytes))
        await checkSpace(path, reserveBytes);
      await writeAll(file, chunk, sizeBytes);
      sizeBytes += chunk.length;
      yield chunk;
    }
  }
  try {
    for await (const { entry, offset } of readTar(kept(inflate(verified(blob, layer, signal), layer, budget)))) {
      budget.takeEntry(entry);
      entries.push({ entry, offset });
    }
    return { path, sizeBytes, entries };
  } catch (error) {
    throw error instanceof Error && "code" in error && error.code === "ENOSPC" ? diskFull(error) : error;
  } finally {
    await file.close();
  }
}

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<void> {
  for (let done = 0; done < chunk.length;) done += (await file.write(chunk, done, chunk.length - done, position + done)).bytesWritten;
}

async function checkSpace(path: string, reserveBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(path);
  if (bavail * bsize < reserveBytes) throw diskFull();
}

/** The refusal when a disk has no room. */
export function diskFull(cause?: unknown): PitwallError {
  return new PitwallError("exhausted", "the node's disk is full: free some space or use another node", { reason: "DISK_FULL", cause });
}
