// A clock on which waiting takes no time, and which tells how long it was.
import { systemClock, type Clock } from "@pitwall/runtime";

export interface HastyClock extends Clock {
  /** Milliseconds of each wait. */
  readonly waits: readonly number[];
}

/** `stepMs` is how far each reading moves it. */
export function hastyClock(stepMs = 0): HastyClock {
  const waits: number[] = [];
  let nowMs = 0;
  return {
    ...systemClock,
    waits,
    monotonicMs: () => (nowMs += stepMs),
    sleep: async (ms, signal) => {
      waits.push(ms);
      signal?.throwIfAborted();
    },
  };
}
