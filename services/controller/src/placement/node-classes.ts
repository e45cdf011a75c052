// The open nodes by class. Nodes of a class have the same value of every label that has few; so what a VM asks of those labels, and
// which failure domains of theirs it is in, is asked of one node for all of its class.
import { placeIn } from "./ordered.ts";
import { Pool } from "./pool.ts";
import type { NodeTable } from "./node-table.ts";

export class NodeClasses {
  readonly #table: NodeTable;
  readonly #names: string[] = [];
  readonly #pools: Pool[] = [];

  constructor(table: NodeTable) {
    this.#table = table;
  }

  /** One pool for each class, none of them empty, in an order that does not depend on how they came. */
  get pools(): readonly Pool[] {
    return this.#pools;
  }

  /** Takes a node into the class of such labels. */
  add(node: number, labels: readonly (readonly [key: string, value: string])[]): Pool {
    const name = nameOf(labels);
    const at = placeIn(this.#names, name);
    const known = this.#names[at] === name ? this.#pools[at] : undefined;
    const pool = known ?? new Pool(this.#table, "by-load");
    if (!known) {
      this.#names.splice(at, 0, name);
      this.#pools.splice(at, 0, pool);
    }
    pool.add(node);
    return pool;
  }

  remove(node: number, pool: Pool): void {
    pool.remove(node);
    if (pool.size > 0) return;
    const at = this.#pools.indexOf(pool);
    this.#names.splice(at, 1);
    this.#pools.splice(at, 1);
  }
}

function nameOf(labels: readonly (readonly [key: string, value: string])[]): string {
  return JSON.stringify(labels.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
