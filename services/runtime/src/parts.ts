// Lists that are too large for one message: cut into parts, and put together again. A list with a part missing is none.
import { PitwallError } from "./errors.ts";

/** Of a message's list; absent: it is whole. */
export interface PartOf {
  /** From 1. */
  readonly part?: number | undefined;
  readonly partCount?: number | undefined;
}

/** The items in their order, at most so many bytes in a part; one that is larger is alone. At least one part. */
export function inParts<T>(items: readonly T[], bytesOf: (item: T) => number, limitBytes: number): T[][] {
  let last: T[] = [];
  const parts = [last];
  let bytes = 0;
  for (const item of items) {
    const size = bytesOf(item);
    if (last.length > 0 && bytes + size > limitBytes) {
      parts.push((last = []));
      bytes = 0;
    }
    last.push(item);
    bytes += size;
  }
  return parts;
}

/** What a message says of its list: nothing when there is but one part. */
export function partOf(index: number, count: number): PartOf {
  return count === 1 ? {} : { part: index + 1, partCount: count };
}

/** Puts the parts of one list together, which come in their order. */
export class Whole<T> {
  readonly #most: number;
  #items: T[] = [];
  #parts = 0;
  #count = 0;

  /** `most`: items that a list may have. */
  constructor(most: number) {
    this.#most = most;
  }

  /** All items once the last part has come. Throws `invalid` for a part that does not follow the one before, and for too many items. */
  add(items: readonly T[], { part = 1, partCount = 1 }: PartOf): readonly T[] | undefined {
    if (part === 1) [this.#items, this.#parts, this.#count] = [[], 0, partCount];
    if (part !== this.#parts + 1 || partCount !== this.#count || part > partCount)
      throw new PitwallError("invalid", `part ${part} of ${partCount} of a list came after part ${this.#parts} of ${this.#count}`, {
        reason: "PART_MISSING",
      });
    if (this.#items.length + items.length > this.#most)
      throw new PitwallError("invalid", `a list has more than ${this.#most} items`, { reason: "LIST_TOO_LONG" });
    this.#items.push(...items);
    this.#parts = part;
    if (part < partCount) return undefined;
    const all = this.#items;
    [this.#items, this.#parts, this.#count] = [[], 0, 0];
    return all;
  }
}
