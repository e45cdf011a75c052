// One layer as a plain tar on disk, and the list of what is in it. It is written in one pass: verified, decompressed and indexed while
// its bytes stream, so that nothing of it is read twice and memory does not grow with it.
import { open, statfs, type FileHandle } from "node:fs/promises";
import { diskFull, orDiskFull } from "./disk-full.ts";
import type { LayerDescriptor } from "./image.ts";
import { inflate, verified } from "./inflate.ts";
import type { LayerFile } from "./layer-index.ts";
import type { LayerProgress } from "./layer-progress.ts";
import type { Budget } from "./limits.ts";
import { pieceBytes, Pieces } from "./pieces.ts";
import type { TarEntry } from "./tar-header.ts";
import { readTar } from "./tar-reader.ts";

/** Free space is looked at each time so much was written. */
const spaceCheckBytes = 64 * 2 ** 20;

export interface LayerFileOptions {
  readonly budget: Budget;
  readonly reserveBytes: number;
  readonly progress: LayerProgress;
  readonly signal: AbortSignal;
  /** Called when the first piece has been written; what it throws ends the work. */
  readonly onBegun?: () => Promise<void>;
}

/**
 * Writes the tar of a layer to `path`, which must not exist, from its stored bytes. Leaves `reserveBytes` of the disk free.
 * Throws `corrupt` (digest, size, format), `exhausted` (limits, DISK_FULL) and what `blob` throws; the file is then the caller's to remove.
 */
export async function writeLayerFile(
  blob: AsyncIterable<Buffer>,
  layer: LayerDescriptor,
  path: string,
  options: LayerFileOptions,
): Promise<LayerFile> {
  const { budget, reserveBytes, progress, signal, onBegun } = options;
  const entries: TarEntry[] = [];
  const offsets: number[] = [];
  const file = await open(path, "wx", 0o600).catch((error: unknown) => {
    throw orDiskFull(error);
  });
  let sizeBytes = 0;
  const pieces = new Pieces(async (piece) => {
    if (Math.floor(sizeBytes / spaceCheckBytes) !== Math.floor((sizeBytes - piece.length) / spaceCheckBytes))
      await checkSpace(path, reserveBytes);
    if (isZeros(piece)) await file.truncate(sizeBytes + piece.length); // takes no room
    else await writeAll(file, piece, sizeBytes);
    if (sizeBytes === 0) await onBegun?.();
    sizeBytes += piece.length;
    progress.advance(sizeBytes);
  });
  async function* kept(tar: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of tar) {
      await pieces.add(chunk);
      yield chunk;
    }
    await pieces.flush();
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

const zeros = Buffer.alloc(pieceBytes);
const isZeros = (piece: Buffer): boolean => piece.compare(zeros, 0, piece.length) === 0;

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<void> {
  for (let done = 0; done < chunk.length;) done += (await file.write(chunk, done, chunk.length - done, position + done)).bytesWritten;
}

async function checkSpace(path: string, reserveBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(path);
  if (bavail * bsize < reserveBytes) throw diskFull();
}
