import { VirtualClock } from "@pitwall/runtime";
import { expect, test } from "vitest";
import { SimHost } from "./host.ts";
import { SimGuest } from "./memory-guest.ts";
import { noTrace } from "./trace.ts";

test("a kill that was under way when the power went ends nothing that has that number since", async () => {
  const clock = new VirtualClock();
  const host = new SimHost({ clock, seed: "1", name: "sim-1", trace: noTrace, killMs: () => 100 });
  const before = host.spawn("/a", new SimGuest(clock));
  void before.kill();
  host.losePower();
  const after = host.spawn("/b", new SimGuest(clock));
  expect(after.identity.pid).toBe(before.identity.pid);
  await clock.advance(100);
  expect(host.running).toEqual([after]);
  const killed = after.kill();
  await clock.advance(100);
  await killed;
  expect(host.running).toEqual([]);
});
