// Forgets what need not be remembered any more. Any number of controllers may do it at once.
import { sleepOrAbort, type Log } from "@pitwall/runtime";
import { forgetAnswers } from "../mutation/answers.ts";
import type { Store } from "../store/store.ts";
import { forgetEvents } from "../store/vm-events.ts";

const everyMs = 10 * 60_000;
const maxEvents = 100_000;

/** Disposing it waits for what is under way. */
export function keepHouse(store: Store, log: Log): AsyncDisposable {
  const stop = new AbortController();
  const running = (async () => {
    while (!stop.signal.aborted) {
      try {
        await store.change(forgetAnswers);
        await forgetEvents(store, maxEvents);
      } catch (error) {
        log.warn("old answers and events could not be forgotten", { error });
      }
      await sleepOrAbort(everyMs, stop.signal);
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
    },
  };
}
