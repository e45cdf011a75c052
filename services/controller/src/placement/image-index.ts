// The nodes that have an image.
import { grown, type NodeTable } from "./node-table.ts";
import { Pool } from "./pool.ts";

export class ImageIndex {
  /** The open ones. Not in order of load: a node has many images, and would be moved in the pool of each. */
  readonly pool: Pool;
  #bits = new Int32Array(4);

  constructor(table: NodeTable) {
    this.pool = new Pool(table, "by-hash");
  }

  has(node: number): boolean {
    return (((this.#bits[node >> 5] ?? 0) >> (node & 31)) & 1) === 1;
  }

  add(node: number): void {
    this.#bits = grown(this.#bits, (node >> 5) + 1);
    this.#bits[node >> 5] = (this.#bits[node >> 5] ?? 0) | (1 << (node & 31));
    this.pool.add(node);
  }

  remove(node: number): void {
    this.#bits[node >> 5] = (this.#bits[node >> 5] ?? 0) & ~(1 << (node & 31));
    this.pool.remove(node);
  }
}
