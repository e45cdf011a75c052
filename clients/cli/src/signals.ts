// The process's signals. States: free (a signal aborts `signal`; a second one ends the process) -> lent (signals go to a child).
import { constants } from "node:os";

const names = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** Ctrl-C reaches the whole process group, and the process that started this one passes it on as well. */
const sameMs = 250;

export type Signal = (typeof names)[number];

/** The reason that {@link Signals.signal} aborts with. */
export class Interrupted extends Error {
  /** 128 and the signal's number, as shells count: 130 for Ctrl-C. */
  readonly exitCode: number;

  constructor(name: Signal) {
    super(`interrupted by ${name}`);
    this.name = "Interrupted";
    this.exitCode = 128 + constants.signals[name];
  }
}

export interface Signals {
  /** Aborts with {@link Interrupted}. */
  readonly signal: AbortSignal;
  /** Until it is disposed, signals go to `take` alone. */
  lend(take: (name: Signal) => void): Disposable;
}

/** Listens from now on. `nowMs` is a clock that never jumps; `end` ends the process. */
export function openSignals(source: NodeJS.EventEmitter, nowMs: () => number, end: (exitCode: number) => void): Signals {
  const stop = new AbortController();
  let takers: readonly ((name: Signal) => void)[] = [];
  let last: { readonly name: Signal; readonly atMs: number } | undefined;
  for (const name of names) {
    source.on(name, () => {
      const isSame = last?.name === name && nowMs() - last.atMs < sameMs;
      last = { name, atMs: nowMs() };
      if (isSame) return;
      const taker = takers.at(-1);
      if (taker) return void taker(name);
      const reason = new Interrupted(name);
      if (stop.signal.aborted) end(reason.exitCode);
      stop.abort(reason);
    });
  }
  return {
    signal: stop.signal,
    lend(take) {
      takers = [...takers, take];
      return {
        [Symbol.dispose]() {
          takers = takers.filter((other) => other !== take);
        },
      };
    },
  };
}
