// Runs the reconcilers, one round after the other, until it is disposed. A round that fails is logged, and made again.
import { sleepOrAbort, systemClock, type Clock, type Log } from "@pitwall/runtime";

const everyMs = 500;

/** Disposing it waits for the round that is under way. */
export function reconcile(
  rounds: Readonly<Record<string, () => Promise<void>>>,
  log: Log,
  clock: Clock = systemClock,
  restMs = everyMs,
): AsyncDisposable {
  const stop = new AbortController();
  const running = Promise.all(
    Object.entries(rounds).map(async ([name, round]) => {
      while (!stop.signal.aborted) {
        await round().catch((error: unknown) => log.warn("a reconciler failed; it tries again", { reconciler: name, error }));
        await sleepOrAbort(restMs, stop.signal, clock);
      }
    }),
  );
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
    },
  };
}
