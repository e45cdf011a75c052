// What is under way at the web port, and how it ends when the gateway stops: what may be done soon is waited for.
import { setTimeout as sleep } from "node:timers/promises";

/** An answer that has not begun may be a change that is being made: whoever asked wants to know. */
const answerLimitMs = 10_000;
/** An answer that goes on for longer than this is a stream; its client opens it again, elsewhere. */
const streamAfterMs = 1_000;
const lookEveryMs = 20;

/** One call or request. */
export interface Underway {
  /** When its answer began, by performance.now(); undefined before that. */
  begunAtMs(): number | undefined;
  /** Ends it now, as unavailable. What has ended by itself is not asked. */
  end(): void;
}

export class AllUnderway {
  readonly #all = new Set<Underway>();
  #isDraining = false;

  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Returns what is called when it is over, and all of it is sent. */
  add(one: Underway): () => void {
    this.#all.add(one);
    return () => void this.#all.delete(one);
  }

  /** Resolves when nothing is under way, or has been told to end and has had its time for that. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    const told = new Set<Underway>();
    const begun = performance.now();
    while (this.#all.size > 0 && performance.now() - begun < answerLimitMs + streamAfterMs) {
      const now = performance.now();
      for (const one of this.#all) {
        const isStream = now - (one.begunAtMs() ?? now) >= streamAfterMs;
        if (told.has(one) || !(isStream || now - begun >= answerLimitMs)) continue;
        told.add(one);
        one.end();
      }
      await sleep(lookEveryMs);
    }
  }
}
