import type { Clock } from "@pitwall/runtime";
import { systemClock } from "@pitwall/runtime";
import { VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { expect, test } from "vitest";
import { bounded, cut, Pace } from "./link-bounds.ts";

test("a node's words are cut at whole characters", () => {
  expect(cut("short", 64)).toBe("short");
  expect(cut("ä".repeat(40), 63)).toBe("ä".repeat(31));
  expect(cut("a\0b", 64)).toBe("a\u2400b");
  const report = VmReport.fromPartial({ message: "x".repeat(5_000), reason: "Y".repeat(500), sshHostKey: "k".repeat(5_000) });
  const { message, reason, sshHostKey } = bounded(report);
  expect([message.length, reason.length, sshHostKey.length]).toEqual([1024, 64, 1024]);
});

test("a flood is read at the pace that is allowed, a burst at once", () => {
  let nowMs = 0;
  const clock: Clock = { ...systemClock, monotonicMs: () => nowMs };
  const pace = new Pace(clock);
  let waitedMs = 0;
  for (let i = 0; i < 3_000; i++) {
    const waitMs = pace.take();
    waitedMs += waitMs;
    nowMs += waitMs;
  }
  expect(waitedMs).toBeGreaterThanOrEqual(10_000);
  expect(waitedMs).toBeLessThan(11_000);
  nowMs += 60_000;
  expect(pace.take()).toBe(0);
});
