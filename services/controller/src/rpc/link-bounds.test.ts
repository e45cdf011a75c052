import { setImmediate as turn } from "node:timers/promises";
import type { Clock } from "@pitwall/runtime";
import { systemClock } from "@pitwall/runtime";
import { VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { expect, test } from "vitest";
import { Backlog, bounded, cut, Pace } from "./link-bounds.ts";

test("a node's words are cut at whole characters", () => {
  expect(cut("short", 64)).toBe("short");
  expect(cut("ä".repeat(40), 63)).toBe("ä".repeat(31));
  expect(cut("a\0b", 64)).toBe("a\u2400b");
  const report = VmReport.fromPartial({ message: "x".repeat(5_000), reason: "Y".repeat(500), sshHostKey: "k".repeat(5_000) });
  const { message, reason, sshHostKey } = bounded(report);
  expect(bounded({ ...report, vmId: "x".repeat(1_000) }).vmId).toBe("");
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

test("a backlog is taken in its order, once it may; who brings more than there is room for waits for one place", async () => {
  const ready = Promise.withResolvers<void>();
  const failures: unknown[] = [];
  const backlog = new Backlog({ ready: ready.promise, onFailure: (error) => failures.push(error), signal: new AbortController().signal });
  const taken: number[] = [];
  const gates = Array.from({ length: 300 }, () => Promise.withResolvers<void>());
  let added = 0;
  const adding = (async () => {
    for (const [index, gate] of gates.entries()) {
      await backlog.add(async () => {
        await gate.promise;
        taken.push(index);
      });
      added++;
    }
  })();
  await turn();
  const room = added;
  expect(room).toBeGreaterThan(100);
  expect(room).toBeLessThan(300);
  gates[0]?.resolve();
  await turn();
  expect([taken, added]).toEqual([[], room]);
  ready.resolve();
  await turn();
  expect([taken, added]).toEqual([[0], room + 1]);
  for (const gate of gates) gate.resolve();
  await adding;
  await backlog.done();
  expect(taken).toEqual(gates.map((_, index) => index));
  expect(failures).toEqual([]);
});

test("after something that could not be taken, or the end, nothing of a backlog is taken any more", async () => {
  const ends = new AbortController();
  const failures: unknown[] = [];
  const options = { ready: Promise.resolve(), onFailure: (error: unknown) => failures.push(error), signal: ends.signal };
  const [broken, over] = [new Backlog(options), new Backlog(options)];
  const taken: string[] = [];
  await broken.add(async () => void taken.push("first"));
  await broken.add(() => Promise.reject(new Error("the database is away")));
  await broken.add(async () => void taken.push("after the failure"));
  await broken.done();
  await over.add(async () => ends.abort());
  await over.add(async () => void taken.push("after the end"));
  await over.done();
  expect(taken).toEqual(["first"]);
  expect(failures).toEqual([new Error("the database is away")]);
});
