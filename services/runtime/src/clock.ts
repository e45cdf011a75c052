// Time as a parameter. Timeouts use the monotonic reading; only people and records see the wall clock.
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

export interface Clock {
  /** Wall-clock milliseconds since the epoch. May jump; for records only. */
  wallMs(): number;
  /** Milliseconds on a clock that never jumps. */
  monotonicMs(): number;
  /** Milliseconds since the host's boot, asleep or not: the reading that all processes of a host share. */
  bootMs(): number;
  /** Resolves after `ms`; rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls back once after `ms`, unless it is disposed before. It keeps no process alive. */
  after(ms: number, callback: () => void): Disposable;
}

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  bootMs: () => Number(readFileSync("/proc/uptime", "latin1").split(" ", 1)[0]) * 1000, // proc_uptime(5): CLOCK_BOOTTIME, cut to 10 ms
  sleep: (ms, signal) => delay(ms, undefined, signal ? { signal } : {}),
  after(ms, callback) {
    const timer = setTimeout(callback, ms).unref();
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};

/** Resolves after `ms`, or as soon as the signal aborts: for loops that look at the signal themselves. */
export async function sleepOrAbort(ms: number, signal: AbortSignal, clock: Clock = systemClock): Promise<void> {
  await clock.sleep(ms, signal).catch(() => undefined);
}

/** A signal that aborts after `ms`, as `AbortSignal.timeout` does. Disposing it stops the timer; the signal then never aborts. */
export function timeLimit(clock: Clock, ms: number): Disposable & { readonly signal: AbortSignal } {
  const limit = new AbortController();
  const timer = clock.after(ms, () => limit.abort(new DOMException(`it took longer than ${ms} ms`, "TimeoutError")));
  return { signal: limit.signal, [Symbol.dispose]: () => timer[Symbol.dispose]() };
}
