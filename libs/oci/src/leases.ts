// Who needs what, and what is being removed: nothing is removed under somebody who needs it, whichever came first.
//
// Taking a lease and deciding about a removal are both done without waiting, so one sees the other. Who came after the decision waits in
// `settled` until the thing is gone, and makes it anew.

export class Leases {
  readonly #counts = new Map<string, number>();
  readonly #leaving = new Map<string, Promise<void>>();

  /** What has this key is not removed before the lease is disposed, unless that has begun: see {@link settled}. */
  take(key: string): Disposable {
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    let isOver = false;
    return {
      [Symbol.dispose]: () => {
        if (isOver) return;
        isOver = true;
        const left = (this.#counts.get(key) ?? 1) - 1;
        if (left === 0) this.#counts.delete(key);
        else this.#counts.set(key, left);
      },
    };
  }

  isHeld(key: string): boolean {
    return this.#counts.has(key);
  }

  /** Resolves when no removal is under way. Under a lease none begins any more. */
  async settled(key: string): Promise<void> {
    await this.#leaving.get(key)?.catch(() => undefined); // told to who removes
  }

  /** Runs `remove`, unless there is a lease: then false. Throws what `remove` throws. */
  async removeUnlessHeld(key: string, remove: () => Promise<void>): Promise<boolean> {
    const earlier = this.#leaving.get(key);
    if (earlier) {
      await earlier;
      return true;
    }
    if (this.isHeld(key)) return false;
    const leaving = remove().finally(() => this.#leaving.delete(key));
    this.#leaving.set(key, leaving);
    await leaving;
    return true;
  }
}
