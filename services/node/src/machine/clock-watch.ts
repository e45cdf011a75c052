// Notices that the host's wall clock is not where it should be: the host was suspended, or somebody set its clock.
import type { Clock } from "@pitwall/runtime";

const lookEveryMs = 5_000;
/** A guest's clock goes its own way too, slowly. */
const atLeastEveryMs = 600_000;
const toleranceMs = 100;

/** Calls `onDue` after each jump, and now and then without one, until the signal aborts. */
export async function watchClock(
  clock: Pick<Clock, "wallMs" | "monotonicMs" | "sleep">,
  onDue: () => void,
  signal: AbortSignal,
): Promise<void> {
  const offsetMs = (): number => clock.wallMs() - clock.monotonicMs();
  let known = offsetMs();
  let last = clock.monotonicMs();
  for (;;) {
    await clock.sleep(lookEveryMs, signal).catch(() => undefined);
    if (signal.aborted) return;
    const isDue = Math.abs(offsetMs() - known) >= toleranceMs || clock.monotonicMs() - last >= atLeastEveryMs;
    if (!isDue) continue;
    known = offsetMs();
    last = clock.monotonicMs();
    onDue();
  }
}
