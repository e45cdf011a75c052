// The nodes by one of their labels: which value each has, and the open ones of each value.
import { grown, type NodeTable } from "./node-table.ts";
import { Pool } from "./pool.ts";

/** What a node without the label has. */
export const unset = 0;

interface Value {
  /** From 1; never used for another value. */
  readonly id: number;
  nodeCount: number;
  readonly pool: Pool;
}

export class LabelIndex {
  readonly #table: NodeTable;
  #ids = new Int32Array(64);
  readonly #values = new Map<string, Value>();
  #lastId = 0;
  /** Those that some open node has, in order. */
  readonly openValues: string[] = [];

  constructor(table: NodeTable) {
    this.#table = table;
  }

  /** The id of a node's value. */
  idOf(node: number): number {
    return this.#ids[node] ?? unset;
  }

  /** The id of a value; undefined when no node has it. */
  id(value: string): number | undefined {
    return this.#values.get(value)?.id;
  }

  /** Its open nodes. */
  pool(value: string): Pool | undefined {
    return this.#values.get(value)?.pool;
  }

  add(node: number, value: string): void {
    const known = this.#values.get(value) ?? { id: ++this.#lastId, nodeCount: 0, pool: new Pool(this.#table, "by-load") };
    this.#values.set(value, known);
    known.nodeCount++;
    this.#ids = grown(this.#ids, node + 1);
    this.#ids[node] = known.id;
  }

  remove(node: number, value: string): void {
    const known = this.#values.get(value);
    if (!known) return;
    this.#ids[node] = unset;
    if (--known.nodeCount === 0) this.#values.delete(value);
  }

  /** Takes a node that has this value into its pool. */
  open(node: number, value: string): Pool | undefined {
    const pool = this.pool(value);
    if (pool?.size === 0) this.openValues.splice(placeOf(this.openValues, value), 0, value);
    pool?.add(node);
    return pool;
  }

  close(node: number, value: string): void {
    const pool = this.pool(value);
    pool?.remove(node);
    if (pool?.size === 0) this.openValues.splice(placeOf(this.openValues, value), 1);
  }
}

/** How many of the ordered values come before this one. */
function placeOf(values: readonly string[], value: string): number {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((values[middle] ?? "") < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
