// Sources that misbehave are refused for a while, the longer the more they did: what sshd calls PerSourcePenalties.

/** In milliseconds. What sshd (9.8) takes by default. */
const costs = {
  /** It tried to log in, and could not. */
  "refused-login": 5_000,
  /** It went away without having tried. */
  "no-login": 1_000,
  /** It had not logged in when the time for that was over. */
  "grace-exceeded": 10_000,
  /** It broke the protocol's rules. */
  overrun: 90_000,
  /** Its connection of the web port was ended for what it sent; sshd has no such thing. */
  flood: 7_500,
} as const;
const refusedFromMs = 15_000;
const maxMs = 600_000;
const maxSources = 65_536;

export type Offence = keyof typeof costs;

export class Penalties {
  readonly #nowMs: () => number;
  /** Until when, by source; in the order of the last offence. */
  readonly #untilMs = new Map<string, { readonly ms: number; readonly isRefused: boolean }>();

  /** `nowMs` never goes back. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  charge(source: string, offence: Offence): void {
    const nowMs = this.#nowMs();
    const known = this.#untilMs.get(source);
    const ms = Math.min(Math.max(known?.ms ?? 0, nowMs) + costs[offence], nowMs + maxMs);
    this.#untilMs.delete(source);
    this.#untilMs.set(source, {
      ms,
      isRefused: (known !== undefined && known.isRefused && known.ms > nowMs) || ms - nowMs >= refusedFromMs,
    });
    const [oldest] = this.#untilMs.keys();
    if (this.#untilMs.size > maxSources && oldest !== undefined) this.#untilMs.delete(oldest);
  }

  /** Once enough has come together, until all of it is over. */
  isRefused(source: string): boolean {
    const known = this.#untilMs.get(source);
    if (!known) return false;
    if (known.ms > this.#nowMs()) return known.isRefused;
    this.#untilMs.delete(source);
    return false;
  }
}
