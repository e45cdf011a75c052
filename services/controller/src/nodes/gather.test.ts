import { expect, test } from "vitest";
import { gather } from "./gather.ts";

test("what is asked for during a run goes into the next one together, each with its own answer", async () => {
  const runs: number[][] = [];
  const double = gather(async (items: readonly number[]) => {
    runs.push([...items]);
    await Promise.resolve();
    return items.map((item) => item * 2);
  }, 3);
  expect(await Promise.all([1, 2, 3, 4, 5].map(double))).toEqual([2, 4, 6, 8, 10]);
  expect(runs).toEqual([[1], [2, 3, 4], [5]]);
});

test("one that fails does not spoil the others", async () => {
  const check = gather(async (items: readonly number[]) => {
    if (items.includes(3)) throw new Error("three");
    return items;
  }, 10);
  const answers = await Promise.allSettled([1, 2, 3, 4].map(check));
  expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "fulfilled"]);
});
