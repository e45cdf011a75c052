// Work that several wait for and that is done once. It goes on while one of them waits, and is aborted when the last has left.

interface Flight<T> {
  readonly result: Promise<T>;
  readonly abort: AbortController;
  waiters: number;
}

/** Work by key. */
export class Flights<T> {
  readonly #flights = new Map<string, Flight<T>>();
  /** Everything that has not ended, given up or not. */
  readonly #running = new Set<Promise<T>>();

  /** The result of the work under `key`, begun by `start` unless it is under way. Rejects with the signal's reason when it aborts first. */
  async join(key: string, signal: AbortSignal, start: (shared: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    let flight = this.#flights.get(key);
    if (!flight) {
      const abort = new AbortController();
      const result: Promise<T> = start(abort.signal).finally(() => {
        this.#running.delete(result);
        this.#forget(key, result);
      });
      result.catch(() => undefined); // told to each waiter
      this.#running.add(result);
      flight = { result, abort, waiters: 0 };
      this.#flights.set(key, flight);
    }
    flight.waiters++;
    const left = Promise.withResolvers<never>();
    left.promise.catch(() => undefined); // raced
    const leave = (): void => left.reject(signal.reason);
    signal.addEventListener("abort", leave, { once: true });
    try {
      return await Promise.race([flight.result, left.promise]);
    } finally {
      signal.removeEventListener("abort", leave);
      if (--flight.waiters === 0) {
        this.#forget(key, flight.result); // who comes now must not join work that is being given up
        flight.abort.abort(signal.reason);
      }
    }
  }

  /** Resolves when no work is under way, not even work that was given up. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
  }

  #forget(key: string, result: Promise<T>): void {
    if (this.#flights.get(key)?.result === result) this.#flights.delete(key);
  }
}
