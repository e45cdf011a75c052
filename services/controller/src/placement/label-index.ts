// The nodes by one of their labels: which value each has, and, of a label with many values, the open nodes of each.
import { grown, type NodeTable } from "./node-table.ts";
import { placeIn } from "./ordered.ts";
import { Pool } from "./pool.ts";

/** The id of a node without the label. */
export const unset = 0;

/** A label with more values does not tell kinds of nodes apart, but nodes, or groups of them whose number grows with the fleet. */
const mostNarrow = 8;

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
  /** Those that some open node has, in order; empty while the label is not kept as a wide one. */
  readonly openValues: string[] = [];

  constructor(table: NodeTable) {
    this.#table = table;
  }

  /** Whether it has too many values to tell kinds of nodes apart. */
  get isWide(): boolean {
    return this.#values.size > mostNarrow;
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
  open(node: number, value: string): Pool[] {
    const pool = this.pool(value);
    if (!pool) return [];
    if (pool.size === 0) this.openValues.splice(placeIn(this.openValues, value), 0, value);
    pool.add(node);
    return [pool];
  }

  close(node: number, value: string): void {
    const pool = this.pool(value);
    pool?.remove(node);
    if (pool?.size === 0) this.openValues.splice(placeIn(this.openValues, value), 1);
  }
}
