// Work that several wait for and that is done once. It goes on while one of them waits, and is aborted when the last has left.

interface Flight<T, W> {
  readonly result: Promise<T>;
  readonly watched: W;
  readonly abort: AbortController;
  waiters: number;
}

/** Work by key. `W` is what can be watched while it goes on. */
export class Flights<T, W = undefined> {
  readonly #flights = new Map<string, Flight<T, W>>();
  /** Everything that has not ended, given up or not. */
  readonly #running = new Set<Promise<T>>();

  /**
   * The work under `key`, begun with a new `watched` unless it is under way. `result` rejects with the signal's reason when it aborts first.
   */
  join(
    key: string,
    signal: AbortSignal,
    watched: () => W,
    start: (shared: AbortSignal, watched: W) => Promise<T>,
  ): { readonly result: Promise<T>; readonly watched: W } {
    signal.throwIfAborted();
    const flight = this.#flights.get(key) ?? this.#begin(key, watched(), start);
    return { result: this.#wait(key, flight, signal), watched: flight.watched };
  }

  /** Resolves when no work is under way, not even work that was given up. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
  }

  #begin(key: string, watched: W, start: (shared: AbortSignal, watched: W) => Promise<T>): Flight<T, W> {
    const abort = new AbortController();
    const result: Promise<T> = start(abort.signal, watched).finally(() => {
      this.#running.delete(result);
      this.#forget(key, result);
    });
    result.catch(() => undefined); // told to each waiter
    this.#running.add(result);
    const flight = { result, watched, abort, waiters: 0 };
    this.#flights.set(key, flight);
    return flight;
  }

  async #wait(key: string, flight: Flight<T, W>, signal: AbortSignal): Promise<T> {
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

  #forget(key: string, result: Promise<T>): void {
    if (this.#flights.get(key)?.result === result) this.#flights.delete(key);
  }
}
