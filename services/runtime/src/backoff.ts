// How long to wait before trying again: exponential with full jitter.

export interface Backoff {
  /** Milliseconds before the next try. */
  nextMs(): number;
  /** Call after a success. */
  reset(): void;
}

/** Doubles from `baseMs` up to `maxMs`; each wait is drawn evenly from zero to that. `random` yields [0, 1). */
export function backoff(baseMs: number, maxMs: number, random: () => number = Math.random): Backoff {
  let attempt = 0;
  return {
    nextMs: () => Math.floor(random() * Math.min(maxMs, baseMs * 2 ** Math.min(attempt++, 30))),
    reset: () => {
      attempt = 0;
    },
  };
}
