import { expect, test } from "vitest";
import { onAbort } from "./on-abort.ts";

test("all who still wait are called back once, with one listener of the signal's for all of them", () => {
  const ends = new AbortController();
  let listeners = 0;
  const listen = ends.signal.addEventListener.bind(ends.signal);
  Object.assign(ends.signal, { addEventListener: (...args: Parameters<typeof listen>) => (listeners++, listen(...args)) });
  const called: number[] = [];
  const stops = [1, 2, 3].map((n) => onAbort(ends.signal, () => called.push(n)));
  stops[1]?.();
  ends.abort();
  ends.abort();
  expect([called, listeners]).toEqual([[1, 3], 1]);
});
