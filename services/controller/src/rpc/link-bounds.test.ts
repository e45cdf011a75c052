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

const reportOf = (vmId: number): VmReport => VmReport.fromPartial({ vmId: String(vmId) });

test("a backlog is taken in its order, once it may, some at once; who brings more than there is room for waits", async () => {
  const ready = Promise.withResolvers<void>();
  const failures: unknown[] = [];
  const taken: string[] = [];
  let [gate, calls, added] = [Promise.withResolvers<void>(), 0, 0];
  const backlog = new Backlog({
    ready: ready.promise,
    async take(reports) {
      calls++;
      await gate.promise;
      taken.push(...reports.map(({ vmId }) => vmId));
    },
    onFailure: (error) => failures.push(error),
    signal: new AbortController().signal,
  });
  const all = Array.from({ length: 300 }, (_, index) => index);
  const adding = (async () => {
    for (const index of all) {
      await backlog.add(reportOf(index));
      added++;
    }
  })();
  await turn();
  const room = added;
  expect(room).toBeGreaterThan(100);
  expect(room).toBeLessThan(300);
  expect(calls).toBe(0);
  ready.resolve();
  await turn();
  expect([calls, taken]).toEqual([1, []]);
  const first = gate;
  gate = Promise.withResolvers();
  first.resolve();
  await turn();
  expect(calls).toBe(2);
  expect(taken.length).toBeGreaterThan(1);
  expect(added).toBeGreaterThan(room);
  gate.resolve();
  await adding;
  await backlog.done();
  expect(taken).toEqual(all.map(String));
  expect(calls).toBeLessThan(100);
  expect(failures).toEqual([]);
});

test("what is taken one by one makes room one by one", async () => {
  const done = Promise.withResolvers<void>();
  let takeOne: () => void = () => undefined;
  const backlog = new Backlog({
    ready: Promise.resolve(),
    async take(_, onTaken) {
      takeOne = () => onTaken(1);
      await done.promise;
    },
    onFailure: (error) => expect.fail(String(error)),
    signal: new AbortController().signal,
  });
  let added = 0;
  const adding = (async () => {
    for (let index = 0; index < 300; index++) {
      await backlog.add(reportOf(index));
      added++;
    }
  })();
  await turn();
  const room = added;
  expect(room).toBeLessThan(299);
  takeOne();
  await turn();
  expect(added).toBe(room + 1);
  done.resolve();
  await adding;
  await backlog.done();
});

test("after something that could not be taken, or the end, nothing of a backlog is taken any more", async () => {
  const ends = new AbortController();
  const failures: unknown[] = [];
  const taken: string[] = [];
  const backlogOf = (take: (vmId: string | undefined) => void): Backlog =>
    new Backlog({
      ready: Promise.resolve(),
      take: async (reports) => {
        for (const { vmId } of reports) taken.push(vmId);
        take(reports[0]?.vmId);
      },
      onFailure: (error: unknown) => failures.push(error),
      signal: ends.signal,
    });
  const broken = backlogOf((vmId) => {
    if (vmId === "2") throw new Error("the database is away");
  });
  for (const vmId of [1, 2, 3]) {
    await broken.add(reportOf(vmId));
    await broken.done();
  }
  const over = backlogOf(() => ends.abort());
  for (const vmId of [4, 5]) {
    await over.add(reportOf(vmId));
    await over.done();
  }
  expect(taken).toEqual(["1", "2", "4"]);
  expect(failures).toEqual([new Error("the database is away")]);
});
