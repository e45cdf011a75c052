// What becomes of nodes on other controllers: looked at in the rows when a notice says so, and now and then anyway.
import { sleepOrAbort, systemClock, type Clock, type Log } from "@pitwall/runtime";
import type { Notices } from "../store/notices.ts";
import type { Store } from "../store/store.ts";
import { changedNodes } from "./session-rows.ts";
import type { Sessions } from "./sessions.ts";

const channel = "pitwall_nodes";
const lookEveryMs = 5_000;
/** A change may become visible this much later than the time that it bears. */
const lateMs = 3_000;
/** Notices that come together are one look; looks that take long, while a whole fleet comes back, are made less often. */
const settleMs = 20;
const restShare = 4;

export class NodeNews {
  readonly #store: Store;
  readonly #sessions: Sessions;
  readonly #notices: Notices;
  readonly #log: Log;
  readonly #clock: Clock;
  /** Of what was passed on. */
  readonly #marks = new Map<string, string>();

  constructor(parts: { store: Store; sessions: Sessions; notices: Notices; log: Log; clock?: Clock }) {
    this.#store = parts.store;
    this.#sessions = parts.sessions;
    this.#notices = parts.notices;
    this.#log = parts.log;
    this.#clock = parts.clock ?? systemClock;
  }

  /** Something about a node was written. */
  tell(): void {
    this.#notices.send(channel);
  }

  /** Until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    let wake: (() => void) | undefined;
    let isTold = false;
    let tookMs = 0;
    const stop = this.#notices.listen(channel, () => {
      isTold = true;
      wake?.();
    });
    try {
      while (!signal.aborted) {
        if (!isTold) {
          const waiting = new AbortController();
          wake = () => waiting.abort();
          await sleepOrAbort(lookEveryMs, AbortSignal.any([signal, waiting.signal]), this.#clock);
        } else await sleepOrAbort(Math.max(settleMs, restShare * tookMs), signal, this.#clock);
        isTold = false;
        const begunMs = this.#clock.monotonicMs();
        await this.#look().catch((error: unknown) => this.#log.warn("changes of nodes could not be read", { error }));
        tookMs = this.#clock.monotonicMs() - begunMs;
      }
    } finally {
      stop();
    }
  }

  async #look(): Promise<void> {
    for (const { nodeId, epoch, mark } of await changedNodes(this.#store.read(), lookEveryMs + lateMs)) {
      if (this.#marks.get(nodeId) === mark) continue;
      this.#marks.set(nodeId, mark);
      this.#sessions.supersede(nodeId, epoch);
      this.#sessions.changed(nodeId);
    }
  }
}
