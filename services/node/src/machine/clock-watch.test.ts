import type { Clock } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { watchClock } from "./clock-watch.ts";

/** Runs the watch for so many looks; how often it called after each. `jumpsMs` is by how much the wall clock is moved before a look. */
async function looks(count: number, jumpsMs: Readonly<Record<number, number>> = {}): Promise<number[]> {
  const stop = new AbortController();
  const calls: number[] = [];
  let [nowMs, jumpedMs, called] = [0, 0, 0];
  const clock: Pick<Clock, "wallMs" | "monotonicMs" | "sleep"> = {
    wallMs: () => nowMs + jumpedMs,
    monotonicMs: () => nowMs,
    async sleep(ms) {
      if (nowMs > 0) calls.push(called);
      if (calls.length === count) stop.abort();
      nowMs += ms;
      jumpedMs += jumpsMs[calls.length] ?? 0;
    },
  };
  await watchClock(clock, () => called++, stop.signal);
  return calls;
}

it("is quiet while the clocks go together", async () => {
  expect((await looks(20)).at(-1)).toBe(0);
});

it("tells once of a jump, forwards or backwards", async () => {
  expect(await looks(5, { 1: 3_600_000 })).toEqual([0, 1, 1, 1, 1]);
  expect(await looks(5, { 1: -3_600_000 })).toEqual([0, 1, 1, 1, 1]);
});

it("tells of small steps once they add up", async () => {
  expect(await looks(5, { 0: 40, 1: 40, 2: 40 })).toEqual([0, 0, 1, 1, 1]);
});

it("tells every ten minutes without a jump", async () => {
  expect((await looks(240)).at(-1)).toBe(2);
});
