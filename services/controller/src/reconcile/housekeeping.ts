// Forgets what need not be remembered any more. Any number of controllers may do it at once.
import { sleepOrAbort, type Log } from "@pitwall/runtime";
import { forgetRecordings } from "../access/recording-intake.ts";
import { forgetAnswers } from "../mutation/answers.ts";
import type { Store } from "../store/store.ts";
import { forgetEvents } from "../store/vm-events.ts";

const longestEveryMs = 10 * 60_000;
const maxEvents = 100_000;

/** How long what is done with is kept. */
export interface Retention {
  /** Remembered answers to request ids. */
  readonly answersMs: number;
  /** Events of VMs, and no more than 100,000 of them. */
  readonly eventsMs: number;
  /** Recordings of sessions, from their begin. */
  readonly recordingsMs: number;
}

/** Every ten minutes, or as often as the shortest time ends. Disposing it waits for what is under way. */
export function keepHouse(store: Store, { answersMs, eventsMs, recordingsMs }: Retention, log: Log): AsyncDisposable {
  const stop = new AbortController();
  const everyMs = Math.min(longestEveryMs, answersMs, eventsMs, recordingsMs);
  const running = (async () => {
    while (!stop.signal.aborted) {
      try {
        await store.change((em) => forgetAnswers(em, answersMs));
        await forgetEvents(store, eventsMs, maxEvents);
        await store.change((em) => forgetRecordings(em, recordingsMs));
        await store.write("delete from host_tombstone where until_time < now()", []);
        await store.write("delete from address_rest where until_time < now()", []);
      } catch (error) {
        log.warn("old answers, events, recordings and names could not be forgotten", { error });
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
