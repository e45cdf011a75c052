// How often a principal may call: so many at once, and a steady rate after that, for reads, for changes and for ways into VMs apart.
//
// Each controller counts for itself and forgets with its end: the limit protects the controller, quotas protect the fleet.
import { PitwallError } from "@pitwall/runtime";

/** More than so many are never remembered; whoever is forgotten begins anew. */
const maxPrincipals = 100_000;

export interface Rate {
  /** 0: no limit. */
  readonly perSecond: number;
  /** So many at once after a pause. */
  readonly burst: number;
}

export class RateLimit {
  readonly #rate: Rate;
  readonly #what: string;
  readonly #nowMs: () => number;
  /** When each would have been served had its calls come at the rate (GCRA, ITU-T I.371); least recently used first. */
  readonly #due = new Map<string, number>();

  /** `what` is for the refusal: `reads`. `nowMs` is monotonic. */
  constructor(what: string, rate: Rate, nowMs: () => number) {
    this.#what = what;
    this.#rate = rate;
    this.#nowMs = nowMs;
  }

  /** Counts one call. Throws `exhausted` that says when there is room for the next. */
  take(key: string): void {
    const { perSecond, burst } = this.#rate;
    if (perSecond === 0) return;
    const intervalMs = 1000 / perSecond;
    const now = this.#nowMs();
    const due = Math.max(this.#due.get(key) ?? 0, now);
    const waitMs = due - now - (burst - 1) * intervalMs;
    if (waitMs > 0) {
      throw new PitwallError("exhausted", `too many ${this.#what}: at most ${perSecond} a second, after ${burst} at once; try again`, {
        reason: "RATE_LIMITED",
        retryAfterMs: Math.ceil(waitMs),
      });
    }
    this.#due.delete(key);
    this.#due.set(key, due + intervalMs);
    if (this.#due.size > maxPrincipals) this.#due.delete(this.#due.keys().next().value ?? key);
  }
}

export interface RateLimits {
  readonly reads: RateLimit;
  readonly changes: RateLimit;
  /** Into VMs. */
  readonly ways: RateLimit;
}

/** Ten seconds' worth may come at once. */
export function openRateLimits(perSecond: Readonly<Record<keyof RateLimits, number>>, nowMs: () => number): RateLimits {
  const limit = (what: string, rate: number): RateLimit => new RateLimit(what, { perSecond: rate, burst: Math.ceil(rate * 10) }, nowMs);
  return {
    reads: limit("reads", perSecond.reads),
    changes: limit("changes", perSecond.changes),
    ways: limit("ways into VMs", perSecond.ways),
  };
}
