// Knows when nothing is under way at the database: virtual time goes on only then.
import { createRequire } from "node:module";
import { setImmediate as turn } from "node:timers/promises";
import pg from "pg";

/** What one answer may set going without another question. */
const restTurns = 3;

let underWay = 0;
let wake: (() => void) | undefined;

function count<R>(result: Promise<R>): Promise<R> {
  underWay++;
  const done = (): void => {
    underWay--;
    if (underWay === 0) wake?.();
  };
  result.then(done, done);
  return result;
}

/** Counts all questions of this process from now on. Once. */
export function watchDatabase(): void {
  // The store's driver comes with a `pg` of its own.
  const stores = createRequire(import.meta.resolve("@mikro-orm/postgresql"))("pg") as typeof pg;
  for (const prototype of new Set([pg.Client.prototype, stores.Client.prototype])) watchClient(prototype);
}

function watchClient(client: pg.Client): void {
  // Only promises are counted: with a callback, the call answers nothing.
  for (const name of ["query", "connect"] as const) {
    const real: (this: pg.Client, ...args: unknown[]) => unknown = client[name];
    Object.assign(client, {
      [name](this: pg.Client, ...args: unknown[]) {
        const callback = args.at(-1);
        if (typeof callback === "function") {
          const { promise, resolve } = Promise.withResolvers<void>();
          void count(promise);
          return real.apply(this, [
            ...args.slice(0, -1),
            (...answer: unknown[]) => {
              resolve();
              Reflect.apply(callback, undefined, answer);
            },
          ]);
        }
        const result = real.apply(this, args);
        return result instanceof Promise ? count(result) : result;
      },
    });
  }
}

/** Resolves when nothing goes on any more without time passing. */
export async function quiet(): Promise<void> {
  for (let rest = 0; rest < restTurns; rest++) {
    await turn();
    if (underWay === 0) continue;
    rest = -1;
    await new Promise<void>((resolve) => {
      wake = resolve;
    });
    wake = undefined;
  }
}
