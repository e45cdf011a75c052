// What nodes say they hold, as one list.
import type { HeldImage } from "@pitwall/proto/pitwall/v1/image.ts";
import type { ImageInventory } from "@pitwall/proto/pitwall/v1/link.ts";

/** By digest; `inventories` by node name, `vmCounts` by digest. Of sizes that differ between nodes the largest is shown. */
export function mergeInventories(
  inventories: ReadonlyMap<string, ImageInventory>,
  vmCounts: ReadonlyMap<string, number>,
): readonly HeldImage[] {
  const found = [...inventories].flatMap(([node, { images }]) => images.map((image) => ({ ...image, node })));
  const largest = (sizes: readonly bigint[]): bigint => sizes.reduce((most, size) => (size > most ? size : most), 0n);
  return [...Map.groupBy(found, ({ digest }) => digest)]
    .map(([digest, copies]) => ({
      digest,
      references: [...new Set(copies.flatMap(({ references }) => references))].toSorted(),
      baseBytes: largest(copies.map(({ baseBytes }) => baseBytes)),
      layerBytes: largest(copies.map(({ layerBytes }) => layerBytes)),
      nodes: copies.map(({ node }) => node).toSorted(),
      vmCount: vmCounts.get(digest) ?? 0,
    }))
    .toSorted((a, b) => (a.digest < b.digest ? -1 : 1));
}
