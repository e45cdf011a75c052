// A stored layer as the bytes of its tar, counted and, where asked for, checked against its diff id.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { digestMismatch, malformed, truncated } from "./image-error.ts";
import type { LayerDescriptor } from "./image.ts";
import { tooLarge } from "./merged-tree.ts";

/** A layer in a file. */
export interface StoredLayer {
  path: string;
  compression: LayerDescriptor["compression"];
  diffId: string;
}

const chunkBytes = 256 * 1024;

/** Yields the tar of a layer; takes each byte from `budget`. Read to its end, it throws `corrupt` when the digest is not the diff id. */
export async function* inflate(
  layer: StoredLayer,
  budget: { bytesLeft: number; readonly maxBytes: number },
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const file = createReadStream(layer.path, { highWaterMark: chunkBytes });
  const inflater =
    layer.compression === "gzip"
      ? createGunzip({ chunkSize: chunkBytes })
      : layer.compression === "zstd"
        ? createZstdDecompress({ chunkSize: chunkBytes })
        : undefined;
  // The end and every error of the pipeline reach the loop through the last stream.
  const output = inflater === undefined ? file : pipeline(file, inflater, () => {});
  const hash = createHash("sha256");
  try {
    // The streams have no encoding set, so their chunks are buffers.
    for await (const chunk of output as AsyncIterable<Buffer>) {
      signal.throwIfAborted();
      budget.bytesLeft -= chunk.length;
      if (budget.bytesLeft < 0) throw tooLarge(`unpacks to more than ${budget.maxBytes} bytes`);
      hash.update(chunk);
      yield chunk;
    }
  } catch (error) {
    throw translate(error, layer);
  } finally {
    file.destroy();
    inflater?.destroy();
  }
  const got = `sha256:${hash.digest("hex")}`;
  if (got !== layer.diffId) throw digestMismatch("an unpacked layer", layer.diffId, got);
}

function translate(error: unknown, layer: StoredLayer): unknown {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "Z_BUF_ERROR" || (code === "ERR_ZLIB_INITIALIZATION_FAILED" && layer.compression === "zstd"))
    return truncated(`layer ${layer.diffId}`, error);
  if (/^(?:Z_|ZSTD_|ERR_ZSTD|ERR_ZLIB)/.test(code)) return malformed(`layer ${layer.diffId} is not valid ${layer.compression}`, error);
  return error;
}
