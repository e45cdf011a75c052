// A clock that moves only when it is told to, for runs that must not depend on how fast the machine is.
//
// Timers fire in the order of their time, and of their making where that is the same. Between two of them everything that can go on
// without time passing does; what waits for a real file or socket does not count as such.
import { setImmediate as turn } from "node:timers/promises";
import type { Clock } from "./clock.ts";

interface Timer {
  readonly dueMs: number;
  readonly callback: () => void;
}

/** The wall clock of a new one: 2026-01-01. */
const firstWallMs = Date.UTC(2026, 0, 1);

export class VirtualClock implements Clock {
  /** By time. */
  readonly #timers: Timer[] = [];
  readonly #settle: () => Promise<unknown>;
  #nowMs = 0;
  #wallOffsetMs = firstWallMs;

  /** `settle` resolves when all that was set going has come to rest; what waits for files or sockets is its business. Default: one turn. */
  constructor(settle: () => Promise<unknown> = () => turn()) {
    this.#settle = settle;
  }

  wallMs(): number {
    return this.#wallOffsetMs + this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  bootMs(): number {
    return this.#nowMs;
  }

  /** How many timers are set. */
  get pending(): number {
    return this.#timers.length;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = this.after(ms, resolve);
    const onAbort = (): void => {
      timer[Symbol.dispose]();
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      await promise;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  after(ms: number, callback: () => void): Disposable {
    const timer = { dueMs: this.#nowMs + Math.max(0, ms), callback };
    let [low, high] = [0, this.#timers.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#timers[middle]?.dueMs ?? Infinity) <= timer.dueMs) low = middle + 1;
      else high = middle;
    }
    this.#timers.splice(low, 0, timer);
    return {
      [Symbol.dispose]: () => {
        const at = this.#timers.indexOf(timer);
        if (at >= 0) this.#timers.splice(at, 1);
      },
    };
  }

  /** Moves the wall clock alone, as an administrator or NTP would. */
  jumpWall(ms: number): void {
    this.#wallOffsetMs += ms;
  }

  /** Lets `ms` pass. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await this.#settle();
    for (let next = this.#timers[0]; next && next.dueMs <= endMs; next = this.#timers[0]) {
      this.#timers.shift();
      this.#nowMs = next.dueMs;
      next.callback();
      await this.#settle(); // all that this set going has come to rest
    }
    this.#nowMs = endMs;
  }

  /** Lets time pass until the condition holds. Throws when it does not within `limitMs`. */
  async until(holds: () => boolean, limitMs: number): Promise<void> {
    const endMs = this.#nowMs + limitMs;
    await this.#settle();
    while (!holds()) {
      const next = this.#timers[0]?.dueMs ?? Infinity;
      if (next > endMs) throw new Error(`the condition did not hold within ${limitMs} ms of virtual time`);
      await this.advance(next - this.#nowMs);
    }
  }
}
