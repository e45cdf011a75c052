// The way of layers through this library, up to the point where a test looks.
import { Readable } from "node:stream";
import {
  Budget,
  defaultLimits,
  LayerStore,
  type FlattenLimits,
  type ImageSources,
  type LeasedLayers,
  type ResolvedImage,
} from "../../src/index.ts";
import { emptyConfig } from "./empty-config.ts";
import type { WrittenLayer } from "./layout-writer.ts";

/** Layers in memory as a source of images. */
export function sourceOf(layers: readonly WrittenLayer[], pieceBytes = 64 * 1024): { sources: ImageSources; image: ResolvedImage } {
  const stored = new Map(layers.map((layer) => [layer.digest, layer.stored]));
  const described = layers.map(({ digest, diffId, compression, stored: { length } }) => ({
    digest,
    diffId,
    sizeBytes: length,
    compression,
  }));
  const image = { reference: "test", digest: `sha256:${"0".repeat(64)}`, sizeBytes: 0, config: emptyConfig, layers: described };
  const sources: ImageSources = {
    resolve: async () => image,
    openBlob: async (_reference, _image, { digest }) =>
      Readable.from(pieces(stored.get(digest) ?? Buffer.alloc(0), pieceBytes), { objectMode: false }),
  };
  return { sources, image };
}

function* pieces(content: Buffer, size: number): Generator<Buffer> {
  for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size);
}

/** Verified, inflated and indexed layers below `dir`. */
export async function leaseOf(
  dir: string,
  layers: readonly WrittenLayer[],
  limits: FlattenLimits = defaultLimits,
): Promise<AsyncDisposable & { lease: LeasedLayers }> {
  const { sources, image } = sourceOf(layers);
  const store = await LayerStore.open({ dir, sources, keepBytes: 2 ** 30, reserveBytes: 0 });
  const lease = await store.lease("test", image, new Budget(limits), AbortSignal.timeout(60_000));
  return {
    lease,
    [Symbol.asyncDispose]: async () => {
      lease[Symbol.dispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}
