import { expect, test } from "vitest";
import { faultKinds, makeSchedule, scopes, steps, type Schedule } from "./schedule.ts";
import { shrink } from "./shrink.ts";

const seeds = Array.from({ length: 300 }, (_, at) => `test/${at}`);

test("a seed draws the same schedule every time, and another seed another", () => {
  expect(makeSchedule("1/2")).toEqual(makeSchedule("1/2"));
  expect(makeSchedule("1/2")).not.toEqual({ ...makeSchedule("1/3"), seed: "1/2" });
});

test.each(["small", "large"] as const)("%s schedules hold 1 to 3 nodes and faults of all kinds, in the order of time", (scope) => {
  const { faults: many, vms, firstFaultMs, earlyCreates, earlyUntilMs } = scopes[scope];
  const within = (count: number, [least, most]: readonly [number, number]): boolean => count >= least && count <= most;
  const kinds = new Set<string>();
  for (const { nodes, faults, ops } of seeds.map((seed) => makeSchedule(seed, scope))) {
    expect([1, 2, 3]).toContain(nodes);
    expect(within(faults.filter(({ kind }) => kind !== "node-gone").length, many)).toBe(true);
    for (const { kind, victim, step, atMs } of faults) {
      kinds.add(kind);
      expect(step !== undefined).toBe(kind === "crash-at" || kind === "disk-broken-at");
      expect(victim).toBeLessThan(3);
      expect(atMs).toBeGreaterThanOrEqual(firstFaultMs);
    }
    expect(faults.map(({ atMs }) => atMs)).toEqual(faults.map(({ atMs }) => atMs).toSorted((a, b) => a - b));
    const creates = ops.filter(({ kind }) => kind === "create");
    expect(within(creates.length, vms)).toBe(true);
    expect(creates.filter(({ atMs }) => atMs <= earlyUntilMs).length).toBeGreaterThanOrEqual(earlyCreates);
  }
  expect(kinds).toEqual(new Set(faultKinds));
});

test("most schedules are small, some are large, and together they wait at every failpoint of this layer", () => {
  const drawn = Array.from({ length: 1_000 }, (_, at) => makeSchedule(`ci/${at}`));
  const small = drawn.filter(({ ops }) => ops.filter(({ kind }) => kind === "create").length <= scopes.small.vms[1]);
  expect(small.length).toBeGreaterThan(700);
  expect(small.length).toBeLessThan(950);
  const waited = new Set(drawn.flatMap(({ faults }) => faults.flatMap(({ step }) => step ?? [])));
  expect(waited).toEqual(new Set(steps));
});

test("schedules hold every change that an owner or an administrator can ask for, with and without a time for second thoughts", () => {
  const schedules = seeds.map((seed) => makeSchedule(seed));
  const asked = new Set(schedules.flatMap(({ ops, nodeOps }) => [...ops, ...nodeOps].map(({ kind }) => kind)));
  const vmKinds = ["create", "get", "start", "stop", "restart", "pause", "suspend", "update", "rename", "delete", "undelete"];
  expect(asked).toEqual(new Set([...vmKinds, "cordon", "uncordon", "drain"]));
  expect(new Set(schedules.map(({ undeleteWindowMs }) => undeleteWindowMs > 0))).toEqual(new Set([true, false]));
});

test("shrinking keeps the fault that matters, and drops the others", async () => {
  const schedule = makeSchedule("1/2", "large");
  const culprit = schedule.faults[1];
  const needed = schedule.ops[0]?.vm;
  const fails = async ({ faults, ops }: Schedule): Promise<boolean> =>
    faults.some((fault) => fault === culprit) && ops.some(({ vm }) => vm === needed);
  const small = await shrink(schedule, fails, { tries: 1_000 });
  expect(small.faults).toEqual([culprit]);
  expect(new Set(small.ops.map(({ vm }) => vm))).toEqual(new Set([needed]));
});

test("shrinking stops when its time is over, with what it has", async () => {
  const schedule = makeSchedule("1/2", "large");
  const over = new AbortController();
  let runs = 0;
  const small = await shrink(
    schedule,
    async () => {
      if (++runs === 2) over.abort();
      return true;
    },
    { tries: 1_000, signal: over.signal },
  );
  expect(runs).toBe(2);
  expect(small.faults).toEqual(schedule.faults.slice(0, -2));
});
