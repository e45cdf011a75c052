// How much an image may ask of the host that flattens it.

/** Bounds of {@link flatten}. A ratio is no bound: zstd packs zeros 32,000 to 1. */
export interface FlattenLimits {
  /** Decompressed bytes of all layers together. */
  maxBytes: number;
  /** Bytes of one file. */
  maxFileBytes: number;
  /** Entries of all layers together, and folders made for them. */
  maxEntries: number;
  /** Folders above an entry, after links are followed. */
  maxDepth: number;
}

/** Room for the large images people run today; a machine-learning image has about 200,000 entries. */
export const defaultLimits: FlattenLimits = { maxBytes: 64 * 2 ** 30, maxFileBytes: 32 * 2 ** 30, maxEntries: 500_000, maxDepth: 128 };
