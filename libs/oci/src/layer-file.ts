// One layer as a plain tar on disk, and the list of what is in it. It is written in one pass: verified, decompressed and indexed while
// its bytes stream, so that nothing of it is read twice and memory does not grow with it.
import { open, statfs, type FileHandle } from "node:fs/promises";
import { diskFull, orDiskFull } from "./disk-full.ts";
import type { LayerDescriptor } from "./image.ts";
import { inflate, verified } from "./inflate.ts";
import type { LayerFile } from "./layer-index.ts";
import type { LayerProgress } from "./layer-progress.ts";
import type { Budget } from "./limits.ts";
import type { TarEntry } from "./tar-header.ts";
import { readTar } from "./tar-reader.ts";

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
  options: { readonly budget: Budget; readonly reserveBytes: number; readonly progress: LayerProgress; readonly signal: AbortSignal },
): Promise<LayerFile> {
  const { budget, reserveBytes, progress, signal } = options;
  const entries: TarEntry[] = [];
  const offsets: number[] = [];
  const file = await open(path, "wx", 0o600).catch((error: unknown) => {
    throw orDiskFull(error);
  });
  let sizeBytes = 0;
  async function* kept(tar: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of tar) {
      if (Math.floor(sizeBytes / spaceCheckBytes) !== Math.floor((sizeBytes - chunk.length) / spaceCheckBytes))
        await checkSpace(path, reserveBytes);
      if (isZeros(chunk)) await file.truncate(sizeBytes + chunk.length); // takes no room
      else await writeAll(file, chunk, sizeBytes);
      sizeBytes += chunk.length;
      progress.advance(sizeBytes);
      yield chunk;
    }
  }
  try {
    await checkSpace(path, reserveBytes + layer.sizeBytes); // it will be larger than that
    progress.begin(path, entries, offsets);
    for await (const { entry, offset } of readTar(kept(inflate(verified(blob, layer, signal), layer, budget)))) {
      budget.takeEntry(entry);
      entries.push(entry);
      offsets.push(offset);
    }
    return { path, sizeBytes, entries, offsets };
  } catch (error) {
    throw orDiskFull(error);
  } finally {
    await file.close();
  }
}

const zeros = Buffer.alloc(256 * 1024);
const isZeros = (chunk: Buffer): boolean => chunk.length <= zeros.length && chunk.compare(zeros, 0, chunk.length) === 0;

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<void> {
  for (let done = 0; done < chunk.length;) done += (await file.write(chunk, done, chunk.length - done, position + done)).bytesWritten;
}

async function checkSpace(path: string, reserveBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(path);
  if (bavail * bsize < reserveBytes) throw diskFull();
}
