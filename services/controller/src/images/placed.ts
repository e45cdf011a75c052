// Which images the VMs are of, and where they are.
import type { Store } from "../store/store.ts";

export interface PlacedImage {
  readonly nodeId: string;
  readonly digest: string;
  readonly vmCount: number;
}

export async function placedImages(store: Store): Promise<readonly PlacedImage[]> {
  const rows: { node_id: string; image_digest: string; count: string }[] = await store
    .read()
    .execute("select node_id, image_digest, count(*) as count from vm group by node_id, image_digest");
  return rows.map(({ node_id, image_digest, count }) => ({ nodeId: node_id, digest: image_digest, vmCount: Number(count) }));
}
