// The process that a controller lives in: it can stop for a while, die, and lose its database. All that the controller does with the
// world goes through here; it is struck between transactions, not amid one.
//
//   up -> paused -> up        up -> dead
import type { EntityManager, Store } from "@pitwall/controller/src/store/store.ts";
import { Ambush } from "@pitwall/node/src/sim/ambush.ts";
import { PitwallError, type Clock, type Failpoints, type Random, type StepName } from "@pitwall/runtime";

const lookMs = 50;
const reads: ReadonlySet<string | symbol> = new Set(["find", "findOne", "findAll", "count", "execute"]);

export class SimProcess {
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #random: Random;
  readonly #end = new AbortController();
  /** Rejects with its death. */
  readonly #dead: Promise<never>;
  #pausedUntilMs = 0;
  #awayUntilMs = 0;
  readonly #ambush = new Ambush();

  constructor(clock: Clock, store: Store, random: Random) {
    this.#clock = clock;
    this.#store = store;
    this.#random = random;
    this.#dead = new Promise((_, reject) => this.died.addEventListener("abort", () => reject(away()), { once: true }));
    this.#dead.catch(() => undefined); // whoever waits for it hears
  }

  /** Aborts with its death. */
  get died(): AbortSignal {
    return this.#end.signal;
  }

  get isPaused(): boolean {
    return this.#clock.monotonicMs() < this.#pausedUntilMs;
  }

  die(): void {
    this.#end.abort(new Error("the controller was killed"));
  }

  pause(ms: number): void {
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, this.#clock.monotonicMs() + ms);
  }

  loseDatabase(ms: number): void {
    this.#awayUntilMs = Math.max(this.#awayUntilMs, this.#clock.monotonicMs() + ms);
  }

  /** Strikes the process when it passes a failpoint the next time, unless this is disposed of before; it should die of it. */
  strikeAt(step: StepName, strike: () => void): Disposable {
    return this.#ambush.lay(step, strike);
  }

  readonly failpoints: Failpoints = {
    at: async (step) => {
      this.#ambush.passed(step);
      // Thrown, not waited for: the transaction under way ends with its connection.
      this.died.throwIfAborted();
    },
    sending: () => "once",
  };

  /** Goes on when the process does: never, once it is dead. */
  async running(): Promise<void> {
    while (this.isPaused && !this.died.aborted) await this.#clock.sleep(this.#pausedUntilMs - this.#clock.monotonicMs());
    if (this.died.aborted) await new Promise(() => undefined);
  }

  readonly clock: Clock = {
    wallMs: () => this.#clock.wallMs(),
    monotonicMs: () => this.#clock.monotonicMs(),
    bootMs: () => this.#clock.bootMs(),
    sleep: async (ms, signal) => {
      await this.#clock.sleep(ms, signal);
      await this.running();
    },
    after: (ms, callback) => this.#clock.after(ms, () => void this.running().then(callback)),
  };

  /** The database as this process reaches it. */
  get store(): Store {
    return {
      read: () => this.#gated(this.#store.read()),
      change: async (work, options) => {
        await this.#reaching();
        const answerLost = this.#random() < 0.5;
        const result = await this.#store
          .change(async (em, after) => {
            // A process that dies lets go of what it has locked: its connection ends.
            const done = await Promise.race([work(em, (then) => after(() => void (this.died.aborted || then()))), this.#dead]);
            // The way to the database is gone: before the commit or, the other half of the time, behind it.
            if (this.#isAway && !answerLost) throw away();
            return done;
          }, options)
          .catch(async (error: unknown) => {
            await this.running();
            throw error;
          });
        await this.#reaching();
        return result;
      },
      write: async (statement, values) => {
        await this.#reaching();
        const rows = await this.#store.write<never>(statement, values).catch(async (error: unknown) => {
          await this.running();
          throw error;
        });
        await this.#reaching(); // away by now: it is written, and the answer lost
        return rows;
      },
      [Symbol.asyncDispose]: async () => undefined,
    };
  }

  get #isAway(): boolean {
    return this.#clock.monotonicMs() < this.#awayUntilMs;
  }

  async #reaching(): Promise<void> {
    await this.running();
    if (!this.#isAway) return;
    await this.#clock.sleep(lookMs);
    await this.running();
    throw away();
  }

  #gated(em: EntityManager): EntityManager {
    return new Proxy(em, {
      get: (target, key): unknown => {
        const value: unknown = Reflect.get(target, key);
        if (typeof value !== "function") return value;
        if (!reads.has(key)) return value.bind(target) as unknown;
        return async (...args: unknown[]): Promise<unknown> => {
          await this.#reaching();
          const result: unknown = await Reflect.apply(value, target, args);
          await this.running();
          return result;
        };
      },
    });
  }
}

function away(): PitwallError {
  return new PitwallError("unavailable", "the database does not answer", { reason: "DATABASE_UNAVAILABLE" });
}
