// Schedules that once found something, made small and written out: a seed draws another one as soon as the drawing changes.
import { expect, test } from "vitest";
import type { Fault, Op, Schedule } from "../schedule/schedule.ts";
import { openInstallation } from "../sim/installation.ts";
import { runAndJudge } from "../sim/judged.ts";
import { openParts } from "../sim/parts.ts";

const fault = (of: Pick<Fault, "kind" | "victim" | "atMs" | "forMs"> & Partial<Fault>): Fault => ({
  ...{ controller: undefined, step: undefined },
  ...of,
});
const created = (vm: number): Op => ({ kind: "create", vm, atMs: 1_000, moves: true, controller: 0 });
const nothing: Schedule = {
  seed: "found",
  nodes: 1,
  controllers: 2,
  undeleteWindowMs: 0,
  firstFaultMs: 2_000,
  ops: [],
  nodeOps: [],
  faults: [],
};

const found: Readonly<Record<string, Schedule>> = {
  // It was sent away by the one and waited in vain for the other. The first had missed little itself, and judged as if nothing had been.
  "a node whose controller is stopped, and that finds the other one without a database, is given time to find back": {
    ...nothing,
    nodes: 3,
    faults: [
      fault({ kind: "controller-pause", victim: 1, atMs: 4_327, forMs: 18_169 }),
      fault({ kind: "database-away", victim: 0, atMs: 11_500, forMs: 4_500 }),
    ],
  },
  // All was as it should be, for another second, while an agent that had died once more at its start was still away: the lease ran out amid the probe.
  "it is not calm before all agents are back": {
    ...nothing,
    nodes: 2,
    ops: [created(0), created(1)],
    faults: [
      fault({ kind: "crash-at", step: "rejoin.agent.start", victim: 0, atMs: 3_900, forMs: 6_900 }),
      fault({ kind: "agent-crash", victim: 0, atMs: 4_000, forMs: 6_700 }),
    ],
  },
  // Two wishes later than what it had told of, its node took what was said of the VM's end for old.
  "a node that was told more of a VM than it could write down removes it when it is elsewhere": {
    ...nothing,
    nodes: 2,
    ops: [0, 1, 2, 3].flatMap((vm) => [
      created(vm),
      ...[3_000, 3_300, 3_600].map((atMs): Op => ({ kind: "restart", vm, atMs, moves: true, controller: 0 })),
    ]),
    faults: [
      fault({ kind: "disk-broken", victim: 0, atMs: 2_500, forMs: 17_000 }),
      fault({ kind: "partition", victim: 0, atMs: 4_500, forMs: 17_000 }),
    ],
  },
};

test.each(Object.keys(found))("%s", { timeout: 120_000 }, async (name) => {
  await using installation = await openInstallation(process.env["PATH"] ?? "");
  await using parts = await openParts(installation);
  const schedule = found[name];
  if (!schedule) throw new Error(`${name} is not there`);
  expect((await runAndJudge(schedule, parts)).violations).toEqual([]);
});
