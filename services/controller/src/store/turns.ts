// Changes take turns: fewer of them run at once than there are connections, so that whoever only reads finds one.
//
// A change may wait, with its connection in its hands, for what is read on another one: when no node will do, all that look for one wait for
// a look at the fleet that they share. With all connections in the hands of such changes, nobody would ever give one back.
import { PitwallError, systemClock, type Clock } from "@pitwall/runtime";

interface Waiting {
  readonly begin: () => void;
  readonly refuse: (error: PitwallError) => void;
}

export class Turns {
  readonly #limitMs: number;
  readonly #clock: Clock;
  readonly #waiting = new Set<Waiting>();
  #free: number;
  #isOver = false;

  /** `limitMs`: how long one waits for a turn. */
  constructor(count: number, limitMs: number, clock: Clock = systemClock) {
    this.#free = count;
    this.#limitMs = limitMs;
    this.#clock = clock;
  }

  /** First come, first served. Throws `unavailable` when it takes too long, or no more turns are given. */
  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isOver) throw stopping();
    if (this.#free > 0) this.#free--;
    else await this.#wait();
    try {
      return await work();
    } finally {
      const [next] = this.#waiting;
      if (next) next.begin();
      else this.#free++;
    }
  }

  /** Who waits is refused, and who comes from now on. */
  end(): void {
    this.#isOver = true;
    for (const { refuse } of this.#waiting) refuse(stopping());
  }

  async #wait(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // Out of the queue at once: a turn that is given to who was refused would be lost.
    const waiting: Waiting = {
      begin: () => this.#waiting.delete(waiting) && resolve(),
      refuse: (error) => this.#waiting.delete(waiting) && reject(error),
    };
    this.#waiting.add(waiting);
    using _limit = this.#clock.after(this.#limitMs, () => waiting.refuse(tooMuch()));
    await promise;
  }
}

function tooMuch(): PitwallError {
  const message = "the database does not answer, or has too much to do; try again";
  return new PitwallError("unavailable", message, { reason: "DATABASE_UNAVAILABLE" });
}

/** Of what comes, or still waits, when the controller has no more time for it. */
export function stopping(): PitwallError {
  return new PitwallError("unavailable", "the controller stops; try again, with the same request_id", { reason: "DRAINING" });
}
