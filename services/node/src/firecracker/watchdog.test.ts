import { VirtualClock } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { untilSilent } from "./watchdog.ts";

const apiLimitMs = 5_000;

/** A VMM that answers until `stopsAtMs`, and then not at all. */
function begin(stopsAtMs: number, questionMs = apiLimitMs): { clock: VirtualClock; over: AbortController; silent: Promise<boolean> } {
  const clock = new VirtualClock();
  const over = new AbortController();
  const ask = async (): Promise<void> => {
    if (clock.monotonicMs() < stopsAtMs) return;
    await clock.sleep(questionMs);
    throw new Error("no answer");
  };
  return { clock, over, silent: untilSilent(ask, clock, over.signal) };
}

it("finds a VMM that stops silent within 12 s, after two questions", async () => {
  for (const stopsAtMs of [1, 999, 1_499, 1_501, 7_000]) {
    const { clock, silent } = begin(stopsAtMs);
    let foundMs: number | undefined;
    void silent.then(() => (foundMs = clock.monotonicMs()));
    await clock.advance(stopsAtMs + 9_000);
    expect(foundMs, `one question is not enough, stopped at ${stopsAtMs}`).toBeUndefined();
    await clock.advance(3_000);
    expect(foundMs, `stopped at ${stopsAtMs}`).toBeDefined();
    expect(await silent).toBe(true);
  }
});

it("says nothing of a VMM that answers, however long, and ends when it is told to", async () => {
  const { clock, over, silent } = begin(Infinity);
  await clock.advance(3_600_000);
  over.abort();
  await clock.advance(2_000);
  expect(await silent).toBe(false);
});

it("does not count a question that took far longer than it may: the agent itself stood still", async () => {
  const { clock, over, silent } = begin(0, 60_000);
  await clock.advance(600_000);
  over.abort();
  await clock.advance(60_000);
  expect(await silent).toBe(false);
});

it("does not count what the agent could not ask for want of its own", async () => {
  const clock = new VirtualClock();
  const over = new AbortController();
  const lack = Object.assign(new Error("too many open files"), { code: "EMFILE" });
  const ask = async (): Promise<void> => {
    throw new Error("no answer", { cause: lack });
  };
  const silent = untilSilent(ask, clock, over.signal);
  await clock.advance(600_000);
  over.abort();
  await clock.advance(2_000);
  expect(await silent).toBe(false);
});
