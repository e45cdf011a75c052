import { VirtualClock } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { Account } from "./limits.ts";

function account(limits: Partial<{ sessions: number; channels: number; idleMs: number; durationMs: number }>): {
  account: Account;
  clock: VirtualClock;
  ended: string[];
} {
  const clock = new VirtualClock();
  const ended: string[] = [];
  const all = { sessions: 2, channels: 3, idleMs: 0, durationMs: 0, ...limits };
  return { account: new Account({ limits: all, clock, end: (why) => void ended.push(why), overran: () => undefined }), clock, ended };
}

it("opens as many sessions and forwards as it may, and others when those are closed", () => {
  const { account: visitor } = account({});
  expect([visitor.openSession(), visitor.openSession(), visitor.openSession()]).toEqual([true, true, false]);
  expect([visitor.openForward(), visitor.openForward()]).toEqual([true, false]);
  visitor.closedSession();
  expect([visitor.openForward(), visitor.openSession()]).toEqual([true, false]);
  visitor.closedForward();
  expect(visitor.openSession()).toBe(true);
});

it("ends after so long without a byte", async () => {
  const { clock, ended } = account({ idleMs: 1_800_000 });
  await clock.advance(1_799_999);
  expect(ended).toEqual([]);
  await clock.advance(1);
  expect(ended).toEqual(["not a byte has passed for 30 min"]);
});

it("ends after so long at all", async () => {
  const { clock, ended } = account({ durationMs: 45_000 });
  await clock.advance(45_000);
  expect(ended).toEqual(["the connection has lasted 45 s, the most it may"]);
});

it("has no limits of time that are not set, or once it is disposed", async () => {
  const { clock, ended } = account({});
  const other = account({ idleMs: 1_000, durationMs: 1_000 });
  other.account[Symbol.dispose]();
  await clock.advance(1e9);
  await other.clock.advance(1e9);
  expect([ended, other.ended]).toEqual([[], []]);
});
