/* oxlint-disable typescript/no-non-null-assertion -- places are below the size */
// Counts by small whole numbers, in order: those of one group lie together, since memory is what a decision waits for.
export class Counts {
  readonly #keys: number[] = [];
  readonly #counts: number[] = [];

  get size(): number {
    return this.#keys.length;
  }

  /** 0 for what was never counted. */
  of(key: number): number {
    const at = this.#placeOf(key);
    return this.#keys[at] === key ? (this.#counts[at] ?? 0) : 0;
  }

  add(key: number, count: number): void {
    const at = this.#placeOf(key);
    if (this.#keys[at] !== key) {
      if (count === 0) return;
      this.#keys.splice(at, 0, key);
      this.#counts.splice(at, 0, count);
      return;
    }
    const sum = (this.#counts[at] ?? 0) + count;
    this.#counts[at] = sum;
    if (sum !== 0) return;
    this.#keys.splice(at, 1);
    this.#counts.splice(at, 1);
  }

  *[Symbol.iterator](): Generator<readonly [key: number, count: number]> {
    for (const [at, key] of this.#keys.entries()) yield [key, this.#counts[at] ?? 0];
  }

  /** Where the key is, or belongs. */
  #placeOf(key: number): number {
    const keys = this.#keys;
    let [low, high] = [0, keys.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (keys[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
