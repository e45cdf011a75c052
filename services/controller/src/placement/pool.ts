/* oxlint-disable typescript/no-non-null-assertion -- places are below the size */
// A set of nodes in order of load, so that the emptiest and the fullest are found without a look at the others.
//
// Order: load, then hash and id; it does not depend on how the set came to be. A pool that ignores load is in order of the latter two.
// Who changes a node's load moves it in its pools first.
import { grown, type NodeTable } from "./node-table.ts";

export class Pool {
  readonly #table: NodeTable;
  readonly #ignoresLoad: boolean;
  /** Numbers of nodes. A typed array, which moves thousands of them in a microsecond. */
  #nodes = new Int32Array(8);
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

  add(node: number): void {
    this.#nodes = grown(this.#nodes, this.#size + 1);
    const place = this.#placeOf(node, this.#table.load(node));
    this.#nodes.copyWithin(place + 1, place, this.#size);
    this.#nodes[place] = node;
    this.#size++;
  }

  remove(node: number): void {
    const place = this.#placeOf(node, this.#table.load(node));
    this.#nodes.copyWithin(place, place + 1, this.#size);
    this.#size--;
  }

  /** To where it belongs with another load. */
  move(node: number, load: number): void {
    const from = this.#placeOf(node, this.#table.load(node));
    const to = this.#placeOf(node, load);
    if (to > from + 1) {
      this.#nodes.copyWithin(from, from + 1, to);
      this.#nodes[to - 1] = node; // it was itself one of those before `to`
    } else if (to < from) {
      this.#nodes.copyWithin(to + 1, to, from);
      this.#nodes[to] = node;
    }
  }

  /** How many nodes have at most this load. */
  countUpTo(load: number): number {
    let [low, high] = [0, this.#size];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#table.load(this.#nodes[middle]!) <= load) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** How many nodes come before this one, were its load the given. */
  #placeOf(node: number, load: number): number {
    const [table, nodes] = [this.#table, this.#nodes];
    let [low, high] = [0, this.#size];
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = nodes[middle]!;
      const otherLoad = this.#ignoresLoad ? load : table.load(other);
      if (otherLoad === load ? isBefore(table, other, node) : otherLoad < load) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function isBefore(table: NodeTable, a: number, b: number): boolean {
  const [hashA, hashB] = [table.hash(a), table.hash(b)];
  return hashA === hashB ? table.id(a) < table.id(b) : hashA < hashB;
}
