// The bytes of a stored layer, verified and decompressed while they stream.
import { createHash } from "node:crypto";
import { pipeline, Readable } from "node:stream";
import { constants, createGunzip, createZstdDecompress } from "node:zlib";
import { digestMismatch, malformed, truncated } from "./image-error.ts";
import type { LayerDescriptor } from "./image.ts";
import { ratioWindowBytes, tooLarge, type Budget } from "./limits.ts";
import { gathered } from "./pieces.ts";
import { zstdFrames } from "./zstd-frames.ts";

/** Larger ones are hardly quicker, and take more memory before it is collected. */
const chunkBytes = 64 * 1024;
/** The largest window that zstd itself uses without being asked; more memory than this is not for an image to take. */
const maxWindowLog = 27;

/** Yields what it reads; at the end throws `corrupt` when size or digest are not the layer's, and at once when it is too long. */
export async function* verified(
  blob: AsyncIterable<Buffer>,
  layer: Pick<LayerDescriptor, "digest" | "sizeBytes">,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of blob) {
    signal.throwIfAborted();
    size += chunk.length;
    if (size > layer.sizeBytes)
      throw malformed(`layer ${layer.digest} is longer than its ${layer.sizeBytes} bytes; push or save the image again`);
    hash.update(chunk);
    yield chunk;
  }
  if (size < layer.sizeBytes) throw truncated(`layer ${layer.digest} (${size} of ${layer.sizeBytes} bytes)`);
  const got = `sha256:${hash.digest("hex")}`;
  if (got !== layer.digest) throw digestMismatch("a layer", layer.digest, got);
}

/**
 * The tar of a layer from its stored bytes; takes each byte from `budget`. Read to its end, it throws `corrupt` when the digest is not
 * the diff id. The source is read to its end too, whatever follows the compressed stream. A bomb is seen by its ratio, long before the
 * budget is used up: that would take a minute.
 */
export async function* inflate(stored: AsyncIterable<Buffer>, layer: LayerDescriptor, budget: Budget): AsyncGenerator<Buffer> {
  const hash = createHash("sha256");
  let storedBytes = 0;
  async function* counted(): AsyncGenerator<Buffer> {
    for await (const chunk of stored) {
      storedBytes += chunk.length;
      yield chunk;
    }
  }
  let window = { bytes: 0, storedBefore: 0 };
  for await (const chunk of decompress(counted(), layer)) {
    budget.takeBytes(chunk.length);
    window.bytes += chunk.length;
    if (window.bytes > ratioWindowBytes) {
      if (window.bytes > (storedBytes - window.storedBefore) * budget.limits.maxRatio)
        throw tooLarge(`has a layer that unpacks to more than ${budget.limits.maxRatio} times its size`);
      window = { bytes: 0, storedBefore: storedBytes };
    }
    hash.update(chunk);
    yield chunk;
  }
  const got = `sha256:${hash.digest("hex")}`;
  if (got !== layer.diffId) throw digestMismatch("an unpacked layer", layer.diffId, got);
}

async function* decompress(stored: AsyncIterable<Buffer>, layer: LayerDescriptor): AsyncGenerator<Buffer> {
  if (layer.compression === "none") {
    yield* stored;
    return;
  }
  const isZstd = layer.compression === "zstd";
  const rest = new Rest(stored);
  const fed = gathered(rest, chunkBytes);
  const source = Readable.from(isZstd ? zstdFrames(fed) : fed, { objectMode: false, highWaterMark: chunkBytes });
  const inflater = isZstd
    ? createZstdDecompress({ chunkSize: chunkBytes, params: { [constants.ZSTD_d_windowLogMax]: maxWindowLog } })
    : createGunzip({ chunkSize: chunkBytes });
  try {
    // The end and every error of the pipeline reach the loop through the last stream, which has no encoding: its chunks are buffers.
    yield* pipeline(source, inflater, () => {}) as AsyncIterable<Buffer>;
    await rest.drain();
  } catch (error) {
    throw translate(error, layer);
  } finally {
    source.destroy();
    inflater.destroy();
    await rest.close();
  }
}

/** A source that outlives its reader: what a decompressor leaves unread after its last byte still has to be verified. */
class Rest implements AsyncIterable<Buffer> {
  readonly #chunks: AsyncIterator<Buffer>;
  #failure: { readonly error: unknown } | undefined;

  constructor(source: AsyncIterable<Buffer>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  [Symbol.asyncIterator](): AsyncIterator<Buffer> {
    return { next: () => this.#next() };
  }

  async drain(): Promise<void> {
    while ((await this.#next()).done !== true);
    if (this.#failure) throw this.#failure.error;
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  /** A failure is kept: it may come when nobody listens any more. */
  async #next(): Promise<IteratorResult<Buffer>> {
    try {
      return await this.#chunks.next();
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }
}

function translate(error: unknown, layer: LayerDescriptor): unknown {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "Z_BUF_ERROR") return truncated(`layer ${layer.digest}`, error);
  if (/^(?:Z_|ZSTD_|ERR_ZSTD|ERR_ZLIB)/.test(code)) return malformed(`layer ${layer.digest} is not valid ${layer.compression}`, error);
  return error;
}
