// Ends a VMM whose API does not answer: asked again and again, twice in vain is enough.
import type { Clock } from "@pitwall/runtime";

/** Between an answer and the next question. */
const restMs = 1_500;
/** How long one question takes at most; the API's own limit. A question that took longer was asked by an agent that did not run. */
const lateMs = 7_000;
const strikes = 2;
/** What the agent itself lacks, which says nothing of a VMM: file descriptors, memory. */
const ownLack: ReadonlySet<unknown> = new Set(["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"]);

/**
 * `ask` rejects when there is no answer. Resolves after `strikes` of those in a row, or when the signal aborts; true: the VMM is silent.
 * An agent that was stopped itself, or that has no file descriptor left, has learnt nothing: such a question does not count.
 */
export async function untilSilent(ask: () => Promise<unknown>, clock: Clock, signal: AbortSignal): Promise<boolean> {
  let failures = 0;
  while (!signal.aborted) {
    const began = clock.monotonicMs();
    let couldAsk = true;
    const isAnswered = await ask().then(
      () => true,
      (error: unknown) => {
        couldAsk = !lacksOwn(error);
        return false;
      },
    );
    if (isAnswered) failures = 0;
    else if (couldAsk && clock.monotonicMs() - began < lateMs) failures++;
    if (failures >= strikes) return !signal.aborted;
    // The second question follows the first at once, unless that failed at once too.
    const isQuick = clock.monotonicMs() - began < restMs;
    if (isAnswered || isQuick) await clock.sleep(restMs, signal).catch(() => undefined); // the loop looks at the signal
  }
  return false;
}

function lacksOwn(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return ("code" in error && ownLack.has(error.code)) || lacksOwn(error.cause);
}
