// Connections that have not logged in yet: beyond a number one of them is dropped now and then, and beyond a larger one always.
//
// sshd drops the newest (MaxStartups). Whoever keeps silent connections open would keep everybody else out then, so here one of the source
// that has the most goes first, and of those one that has said nothing: who means to log in speaks at once.

export interface Startup {
  /** As `sourceOf` has it. */
  readonly source: string;
  /** Whether not a byte has come. */
  isSilent(): boolean;
}

/** Of sshd's `start:rate:full`. */
const firstRate = 0.3;

export class Startups<C extends Startup> {
  readonly #from: number;
  readonly #full: number;
  readonly #random: () => number;
  /** By age. */
  readonly #waiting = new Set<C>();

  /** Up to `from` nobody is dropped; with more than `full` there is one dropped for each that comes. `random` is from 0 to 1. */
  constructor(from: number, full: number, random: () => number = Math.random) {
    this.#from = from;
    this.#full = full;
    this.#random = random;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** Who must go for this one, if anybody: it counts no longer. */
  began(connection: C): C | undefined {
    this.#waiting.add(connection);
    const over = this.#waiting.size - this.#from;
    if (over <= 0) return undefined;
    const rate = this.#waiting.size > this.#full ? 1 : firstRate + ((1 - firstRate) * over) / (this.#full - this.#from + 1);
    if (this.#random() >= rate) return undefined;
    const dropped = this.#victim();
    if (dropped) this.#waiting.delete(dropped);
    return dropped;
  }

  /** It has logged in, or is gone. */
  ended(connection: C): void {
    this.#waiting.delete(connection);
  }

  #victim(): C | undefined {
    const bySource = Map.groupBy(this.#waiting, ({ source }) => source);
    const crowd = [...bySource.values()].reduce((most, each) => (each.length > most.length ? each : most), []);
    return crowd.find((connection) => connection.isSilent()) ?? crowd[Math.floor(this.#random() * crowd.length)];
  }
}
