import { expect, test } from "vitest";
import { sleepOrAbort, timeLimit } from "./clock.ts";
import { VirtualClock } from "./virtual-clock.ts";

test("timers fire in the order of their time, then of their making, each at its time", async () => {
  const clock = new VirtualClock();
  const fired: string[] = [];
  const note = (name: string) => (): void => void fired.push(`${name}@${clock.monotonicMs()}`);
  clock.after(30, note("c"));
  clock.after(10, note("a"));
  clock.after(10, note("b"));
  const dropped = clock.after(20, note("dropped"));
  dropped[Symbol.dispose]();
  clock.after(31, note("later"));
  await clock.advance(30);
  expect(fired).toEqual(["a@10", "b@10", "c@30"]);
});

test("what a timer sets going comes to rest before the next one fires", async () => {
  const clock = new VirtualClock();
  const seen: number[] = [];
  const loop = (async () => {
    for (let round = 0; round < 3; round++) {
      await clock.sleep(5);
      seen.push(clock.monotonicMs());
    }
  })();
  await clock.advance(1_000);
  await loop;
  expect(seen).toEqual([5, 10, 15]);
});

test("an aborted sleep rejects with the signal's reason, and its timer is gone", async () => {
  const clock = new VirtualClock();
  const stop = new AbortController();
  const sleeping = clock.sleep(100, stop.signal);
  const patient = sleepOrAbort(100, stop.signal, clock);
  stop.abort(new Error("enough"));
  await expect(sleeping).rejects.toThrow("enough");
  await patient;
  await expect(clock.sleep(1, stop.signal)).rejects.toThrow("enough");
});

test("a time limit aborts at its time, and never once it is disposed", async () => {
  const clock = new VirtualClock();
  using limit = timeLimit(clock, 50);
  const other = timeLimit(clock, 50);
  other[Symbol.dispose]();
  await clock.advance(49);
  expect(limit.signal.aborted).toBe(false);
  await clock.advance(1);
  expect([limit.signal.aborted, other.signal.aborted]).toEqual([true, false]);
});

test("a jump of the wall clock moves no timer", async () => {
  const clock = new VirtualClock();
  const before = clock.wallMs();
  let fired = false;
  clock.after(10, () => (fired = true));
  clock.jumpWall(-600_000);
  await clock.advance(9);
  expect([clock.wallMs() - before, fired]).toEqual([-599_991, false]);
});

test("waiting for what never comes ends with the limit", async () => {
  const clock = new VirtualClock();
  await expect(clock.until(() => false, 20)).rejects.toThrow("the condition did not hold within 20 ms of virtual time");
  clock.after(5, () => undefined);
  await clock.until(() => clock.monotonicMs() >= 5, 20);
  expect(clock.monotonicMs()).toBe(5);
});
