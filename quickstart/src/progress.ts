// Long work told to a person: what begins, that it goes on, and how long it took.
import { systemClock } from "@pitwall/runtime";

export type Say = (text: string) => void;

const repeatMs = 5_000;
/** Work that is done sooner than this needs no second word. */
const quickMs = 1_000;

/** Says `text` at once, again with the time taken every 5 s, and at the end when it took longer than a second. */
export async function withProgress<T>(say: Say, text: string, work: () => Promise<T>): Promise<T> {
  const begun = systemClock.monotonicMs();
  const elapsed = (): string => `${((systemClock.monotonicMs() - begun) / 1000).toFixed(1)} s`;
  say(text);
  const timer = setInterval(() => say(`  … ${text} (${elapsed()})`), repeatMs);
  try {
    const result = await work();
    if (systemClock.monotonicMs() - begun > quickMs) say(`  done: ${text} (${elapsed()})`);
    return result;
  } finally {
    clearInterval(timer);
  }
}
