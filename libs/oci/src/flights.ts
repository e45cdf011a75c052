// Work that several wait for and that is done once. It goes on while one of them waits, and is aborted when the last has left.

interface Flight<T> {
  readonly result: Promise<T>;
  readonly abort: AbortController;
  waiters: number;
}

/** Work by key. */
export class Flights<T> {
  readonly #flights = new Map<string, Flight<T>>();

  /** The result of the work under `key`, begun by `start` unless it is under way. Rejects with the signal's reason when it aborts first. */
  async join(key: string, signal: AbortSignal, start: (shared: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    let flight = this.#flights.get(key);
    if (!flight) {
      const abort = new AbortController();
      const result: Promise<T> = start(abort.signal).finally(() => this.#forget(key, result));
      result.catch(() => undefined); // told to each waiter
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

  #forget(key: string, result: Promise<T>): void {
    if (this.#flights.get(key)?.result === result) this.#flights.delete(key);
  }
}
