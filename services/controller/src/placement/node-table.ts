/* oxlint-disable typescript/no-non-null-assertion -- numbers of nodes are those that the table gave out */
// The numbers of all nodes, eight to a node, side by side: a decision reads those of many nodes, and memory is what it waits for.
import { resources, type Resource, type Resources } from "./wanted.ts";

const width = 8; // a cache line
const place = { cpuMillis: 0, memBytes: 1, diskBytes: 2 } as const satisfies Record<Resource, number>;
const limit = 3; // of each resource, behind what is used
const load = 6;
const hash = 7;

export class NodeTable {
  #cells = new Float64Array(width * 64);
  readonly #ids: string[] = [];
  readonly #free: number[] = [];

  /** A number for a node, until it is released; small, since it is an index. */
  add(id: string): number {
    const number = this.#free.pop() ?? this.#ids.length;
    this.#ids[number] = id;
    this.#cells = grown(this.#cells, width * (number + 1));
    this.#cells.fill(0, number * width, (number + 1) * width);
    this.#cells[number * width + hash] = hashOf(id);
    return number;
  }

  release(number: number): void {
    this.#free.push(number);
  }

  id(number: number): string {
    return this.#ids[number]!;
  }

  /** Orders nodes of equal load without regard to how they are named. */
  hash(number: number): number {
    return this.#cells[number * width + hash]!;
  }

  /** The largest used share of a resource; 1 is full. */
  load(number: number): number {
    return this.#cells[number * width + load]!;
  }

  setLoad(number: number, value: number): void {
    this.#cells[number * width + load] = value;
  }

  used(number: number, resource: Resource): number {
    return this.#cells[number * width + place[resource]]!;
  }

  /** What the node may give away. */
  limit(number: number, resource: Resource): number {
    return this.#cells[number * width + limit + place[resource]]!;
  }

  setLimit(number: number, capacity: Resources): void {
    for (const resource of resources) this.#cells[number * width + limit + place[resource]] = capacity[resource];
  }

  use(number: number, amounts: Resources, sign: 1 | -1): void {
    for (const resource of resources) this.#cells[number * width + place[resource]]! += sign * amounts[resource];
  }

  fits(number: number, { cpuMillis, memBytes, diskBytes }: Resources): boolean {
    const cells = this.#cells;
    const at = number * width;
    return (
      cells[at]! + cpuMillis <= cells[at + limit]! &&
      cells[at + 1]! + memBytes <= cells[at + limit + 1]! &&
      cells[at + 2]! + diskBytes <= cells[at + limit + 2]!
    );
  }

  /** The node's load if it used so much more. */
  loadWith(number: number, { cpuMillis, memBytes, diskBytes }: Resources): number {
    const cells = this.#cells;
    const at = number * width;
    return Math.max(
      share(cells[at]! + cpuMillis, cells[at + limit]!),
      share(cells[at + 1]! + memBytes, cells[at + limit + 1]!),
      share(cells[at + 2]! + diskBytes, cells[at + limit + 2]!),
    );
  }
}

/** Of a resource that a node has not, any use is too much. */
function share(used: number, of: number): number {
  return used === 0 ? 0 : used / of;
}

/** An array with room for so many, with what the old one held. */
export function grown<A extends Float64Array | Int32Array>(array: A, size: number): A {
  if (size <= array.length) return array;
  const larger = new (array.constructor as new (length: number) => A)(Math.max(size, array.length * 2)); // of the same kind
  larger.set(array);
  return larger;
}

/** FNV-1a, 32 bits. */
function hashOf(text: string): number {
  let sum = 0x811c9dc5;
  for (let n = 0; n < text.length; n++) sum = Math.imul(sum ^ text.charCodeAt(n), 0x01000193);
  return mix(sum, 0);
}

/** Scatters a hash by a seed, to 32 bits. */
export function mix(from: number, seed: number): number {
  let mixed = Math.imul(from ^ (from >>> 16) ^ Math.imul(seed, 0x9e3779b1), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
