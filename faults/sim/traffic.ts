// All that this process asks the databases of its simulations: counted, so that virtual time goes on only when nothing is under way, and
// asked at the time of the simulation, which the database learns with the first question after it has moved.
//
// The begin of a transaction is not waited for: it goes out with the first question of it.
import { createRequire } from "node:module";
import { setImmediate as turn } from "node:timers/promises";
import pg from "pg";

/** What one answer may set going without another question. */
const restTurns = 2;
/** How long an answer may take until it is asked whether it waits for a lock. */
const lockLookMs = 25;
/** In real time: what is not answered then, and waits for no lock, never will be. */
const answerLimitMs = 30_000;

const begun = { command: "BEGIN", rowCount: null, oid: 0, rows: [], fields: [] };

/** Of the databases of simulations, by name; others are left alone. */
const all = new Map<string, Traffic>();

export class Traffic {
  readonly #tick: (nowMs: number) => string;
  readonly #lockWaits: () => Promise<number>;
  #nowMs: () => number = () => 0;
  #toldMs: number | undefined;
  readonly #underWay = new Set<{ readonly what: string }>();
  #connections = 0;
  #mostConnections = 0;
  #answers = 0;
  #isHeldUp = false;
  #wake: (() => void) | undefined;

  /** `tick` is what tells the database the time; `lockWaits` asks how many questions wait for a lock, on a connection of its own. */
  constructor(database: string, tick: (nowMs: number) => string, lockWaits: () => Promise<number>) {
    this.#tick = tick;
    this.#lockWaits = lockWaits;
    all.set(database, this);
  }

  /** Whose time it is from now on. */
  follow(nowMs: () => number): void {
    this.#nowMs = nowMs;
    this.#toldMs = undefined;
  }

  /** The most connections at once since this was last asked. */
  takeMostConnections(): number {
    const most = this.#mostConnections;
    this.#mostConnections = this.#connections;
    return most;
  }

  connected(client: pg.Client): void {
    this.#connections++;
    this.#mostConnections = Math.max(this.#mostConnections, this.#connections);
    client.once("end", () => this.#connections--);
  }

  /** What must go out ahead of a question: empty when the database knows the time. */
  tickDue(): string {
    const nowMs = Math.floor(this.#nowMs());
    if (nowMs === this.#toldMs) return "";
    this.#toldMs = nowMs;
    return this.#tick(nowMs);
  }

  /** `what` is asked, for whoever wonders what is not answered. */
  count<R>(result: Promise<R>, what: string): Promise<R> {
    const question = { what };
    this.#underWay.add(question);
    const done = (): void => {
      this.#underWay.delete(question);
      this.#answers++;
      if (this.#underWay.size === 0) this.#wake?.();
    };
    result.then(done, done);
    return result;
  }

  /**
   * Resolves when nothing goes on any more without time passing: what waits for the lock of somebody who waits for time does not. Rejects
   * when a question is never answered.
   */
  async quiet(): Promise<void> {
    for (let rest = 0; rest < restTurns; rest++) {
      await turn();
      if (this.#underWay.size === 0) continue;
      if (await this.#answered()) return;
      rest = -1;
    }
  }

  /** Resolves with false when all is answered, with true when what is not waits for locks. */
  #answered(): Promise<boolean> {
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      let [lastAnswers, sinceMs] = [this.#answers, performance.now()];
      const look = async (): Promise<void> => {
        const [answers, underWay] = [this.#answers, this.#underWay.size];
        const waits = await this.#lockWaits().catch(() => 0);
        if (timer === undefined) return; // all was answered meanwhile
        this.#isHeldUp = waits >= underWay && answers === this.#answers;
        if (this.#isHeldUp) return end(() => resolve(true));
        if (lastAnswers !== this.#answers) [lastAnswers, sinceMs] = [this.#answers, performance.now()];
        if (performance.now() - sinceMs > answerLimitMs) return end(() => reject(this.#neverAnswered(waits)));
        timer = setTimeout(() => void look(), lockLookMs);
      };
      const end = (settle: () => void): void => {
        clearTimeout(timer);
        timer = undefined;
        this.#wake = undefined;
        settle();
      };
      this.#wake = () => {
        this.#isHeldUp = false;
        end(() => resolve(false));
      };
      // What was held up still is, most likely.
      timer = setTimeout(() => void look(), this.#isHeldUp ? 0 : lockLookMs);
    });
  }

  #neverAnswered(waits: number): Error {
    const questions = [...this.#underWay].map(({ what }) => what.slice(0, 100));
    return new Error(
      `the database answered nothing for ${answerLimitMs / 1_000} s; ${waits} of ${questions.length} questions wait for locks: ${questions.join(" | ")}`,
    );
  }
}

let isWatched = false;

/** Sees all questions of this process from now on; each once, however often this is called. */
export function watchDatabases(): void {
  if (isWatched) return;
  isWatched = true;
  // The store's driver comes with a `pg` of its own.
  const stores = createRequire(import.meta.resolve("@mikro-orm/postgresql"))("pg") as typeof pg;
  for (const prototype of new Set([pg.Client.prototype, stores.Client.prototype])) watchClient(prototype);
}

/** Transactions that have begun, and of which the server has not heard. */
const beginning = new WeakSet<pg.Client>();

type Real = (this: pg.Client, ...args: unknown[]) => unknown;

function watchClient(prototype: pg.Client): void {
  const { connect, query } = prototype as { connect: Real; query: Real };
  Object.assign(prototype, {
    connect(this: pg.Client, ...args: unknown[]) {
      const traffic = all.get(this.database ?? "");
      if (!traffic) return connect.apply(this, args);
      Object.assign(this, { pipeline: true });
      traffic.connected(this);
      return counted(traffic, args, (...given) => connect.apply(this, given));
    },
    query(this: pg.Client, ...args: unknown[]) {
      const traffic = all.get(this.database ?? "");
      if (!traffic) return query.apply(this, args);
      if (args[0] === "begin" && typeof args.at(-1) !== "function") {
        beginning.add(this);
        return Promise.resolve(begun);
      }
      const ahead = [traffic.tickDue(), beginning.delete(this) ? "begin" : ""].filter((part) => part !== "").join("; ");
      if (ahead === "") return counted(traffic, args, (...given) => query.apply(this, given));
      const { stream } = (this as unknown as { connection: { stream: { cork(): void; uncork(): void } } }).connection; // it has no other name
      stream.cork();
      try {
        void (query.call(this, ahead) as Promise<unknown>).catch(() => undefined); // what follows fails then, too
        return counted(traffic, args, (...given) => query.apply(this, given));
      } finally {
        stream.uncork();
      }
    },
  });
}

/** Only promises are counted: with a callback, the call answers nothing. */
function counted(traffic: Traffic, args: readonly unknown[], call: (...args: unknown[]) => unknown): unknown {
  const callback = args.at(-1);
  const what = typeof args[0] === "string" ? args[0] : "connect";
  if (typeof callback !== "function") {
    const result = call(...args);
    return result instanceof Promise ? traffic.count(result, what) : result;
  }
  const { promise, resolve } = Promise.withResolvers<void>();
  void traffic.count(promise, what);
  return call(...args.slice(0, -1), (...answer: unknown[]) => {
    resolve();
    Reflect.apply(callback, undefined, answer);
  });
}
