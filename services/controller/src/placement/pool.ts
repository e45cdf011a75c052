/* oxlint-disable typescript/no-non-null-assertion -- places are below the size */
// A set of nodes in order of load, so that the emptiest and the fullest are found without a look at the others.
//
// Order: load, then hash and id; it does not depend on how the set came to be. A pool that ignores load is in order of the latter two.
// Who changes a node's load moves it in its pools first.
import { grown, type NodeTable } from "./node-table.ts";

export class Pool {
  readonly #table: NodeTable;
  readonly #ignoresLoad: boolean;
  /** Numbers of nodes, and beside them their loads, for searches to stay in one place. Thousands are moved in a microsecond. */
  #nodes = new Int32Array(8);
  #loads = new Float64Array(8);
  #size = 0;

  constructor(table: NodeTable, order: "by-load" | "by-hash") {
    this.#table = table;
    this.#ignoresLoad = order === "by-hash";
  }

  get size(): number {
    return this.#size;
  }

  /** The node at a place of the order, from 0. */
  at(place: number): number {
    return this.#nodes[place]!;
  }

  /** Its load; 0 when the pool ignores that. */
  loadAt(place: number): number {
    return this.#loads[place]!;
  }

  add(node: number): void {
    this.#nodes = grown(this.#nodes, this.#size + 1);
    this.#loads = grown(this.#loads, this.#size + 1);
    const load = this.#loadOf(node);
    const place = this.#placeOf(node, load);
    this.#shift(place, this.#size, 1);
    this.#put(place, node, load);
    this.#size++;
  }

  remove(node: number): void {
    const place = this.#placeOf(node, this.#loadOf(node));
    this.#shift(place + 1, this.#size, -1);
    this.#size--;
  }

  /** To where it belongs with another load. Of a pool in order of load. */
  move(node: number, load: number): void {
    const from = this.#placeOf(node, this.#loadOf(node));
    const before = this.#placeOf(node, load);
    const to = before > from ? before - 1 : before; // it is itself one of those before
    if (to > from) this.#shift(from + 1, to + 1, -1);
    else this.#shift(to, from, 1);
    this.#put(to, node, load);
  }

  /** How many nodes have at most this load. */
  countUpTo(load: number): number {
    const loads = this.#loads;
    let [low, high] = [0, this.#size];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (loads[middle]! <= load) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #loadOf(node: number): number {
    return this.#ignoresLoad ? 0 : this.#table.load(node);
  }

  #put(place: number, node: number, load: number): void {
    this.#nodes[place] = node;
    this.#loads[place] = load;
  }

  #shift(from: number, end: number, by: 1 | -1): void {
    if (from >= end) return;
    this.#nodes.copyWithin(from + by, from, end);
    this.#loads.copyWithin(from + by, from, end);
  }

  /** How many nodes come before this one, were its load the given. */
  #placeOf(node: number, load: number): number {
    const loads = this.#loads;
    let [low, high] = [0, this.#size];
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = loads[middle]!;
      if (other === load ? this.#isBefore(this.#nodes[middle]!, node) : other < load) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #isBefore(a: number, b: number): boolean {
    const [hashA, hashB] = [this.#table.hash(a), this.#table.hash(b)];
    return hashA === hashB ? this.#table.id(a) < this.#table.id(b) : hashA < hashB;
  }
}
