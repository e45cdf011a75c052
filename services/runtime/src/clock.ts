// Time as a parameter. Timeouts use the monotonic reading; only people and records see the wall clock.
import { setTimeout as delay } from "node:timers/promises";

export interface Clock {
  /** Wall-clock milliseconds since the epoch. May jump; for records only. */
  wallMs(): number;
  /** Milliseconds on a clock that never jumps. */
  monotonicMs(): number;
  /** Resolves after `ms`; rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) => delay(ms, undefined, signal ? { signal } : {}),
};

/** Resolves after `ms`, or as soon as the signal aborts: for loops that look at the signal themselves. */
export async function sleepOrAbort(ms: number, signal: AbortSignal): Promise<void> {
  await systemClock.sleep(ms, signal).catch(() => undefined);
}
