// Nodes that go and never come back.
import type { SimNode } from "@pitwall/node/src/sim/node.ts";
import type { Clock } from "@pitwall/runtime";

const lookMs = 50;

export class Departures {
  readonly #clock: Clock;
  readonly #leaving = new Set<SimNode>();
  readonly #gone = new Set<SimNode>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The node's host is off for good, now or as soon as what else struck it is over. */
  leave(node: SimNode): void {
    this.#leaving.add(node);
    if (!node.isUp) return void this.#clock.after(lookMs, () => this.leave(node));
    node.lose(undefined);
    this.#gone.add(node);
  }

  hasGone(node: SimNode): boolean {
    return this.#gone.has(node);
  }

  /** Whether all that are to go have. */
  get areOver(): boolean {
    return this.#gone.size === this.#leaving.size;
  }
}
