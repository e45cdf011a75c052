// The most that was seen of what must not pile up, and how much of it there may be.
import type { Peak } from "../observer/sim-history.ts";

/** A controller's pool (store.ts), and what the simulation asks itself. */
const caps = {
  "connections to the database": 17,
  "messages that wait for a node": 300,
  "messages that wait to be read": 300,
  timers: 600,
} as const;

export class Gauges {
  readonly #peaks = new Map<keyof typeof caps, number>();

  saw(what: keyof typeof caps, now: number): void {
    this.#peaks.set(what, Math.max(now, this.#peaks.get(what) ?? 0));
  }

  peaks(): Record<string, Peak> {
    return Object.fromEntries([...this.#peaks].map(([what, peak]) => [what, { peak, cap: caps[what] }]));
  }
}
