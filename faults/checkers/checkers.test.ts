import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { expect, test } from "vitest";
import type { Call, FinalVm, History, RowWrite, Run } from "../observer/history.ts";
import { checkers, judge } from "./checkers.ts";

const write = (change: Partial<RowWrite>): RowWrite => ({
  ...{ seq: 1, atMs: 0, op: "UPDATE", vm: "a", node: "n1", epoch: 1, generation: 1, observed: 0, request: "r" },
  ...{ desired: Desired.DESIRED_RUNNING, phase: Phase.PHASE_PLACED, cpuMillis: 100, memBytes: 100 },
  ...change,
});
const born = write({ op: "INSERT" });
const run = (change: Partial<Run>): Run => ({ vm: "a", node: "n1", fromMs: 10, toMs: undefined, ...change });
const final = (change: Partial<FinalVm>): FinalVm => ({
  ...{
    vm: "a",
    node: "n1",
    desired: Desired.DESIRED_RUNNING,
    phase: Phase.PHASE_RUNNING,
    reason: "",
    generation: 1,
    observed: 1,
    revision: 2,
  },
  ...change,
});
const call = (change: Partial<Call>): Call => ({
  ...{ kind: "create", vm: 0, vmId: "a", requestId: "r", fromMs: 0, toMs: 1, outcome: "ok", generation: 1n, message: "" },
  ...change,
});

/** A VM that was made, runs, and was watched. */
const good: History = {
  calls: [call({})],
  writes: [born, write({ observed: 1, phase: Phase.PHASE_RUNNING })],
  runs: [run({})],
  watched: [
    { vm: "a", revision: 1, isGone: false },
    { vm: "a", revision: 2, isGone: false },
  ],
  events: [
    { vm: "a", revision: 1 },
    { vm: "a", revision: 2 },
  ],
  final: [final({})],
  stored: [{ node: "n1", vm: "a" }],
  gone: [],
  capacity: { cpuMillis: 150, memBytes: 150 },
  losses: [],
  troubles: [{ node: "n1", fromMs: 0, toMs: 20_000 }],
  patienceMs: 15_000,
  resolutionMs: 0,
  audited: ["r"],
};

test("nothing is wrong with a history in which all went well", () => {
  expect(judge(good)).toEqual([]);
});

const deleted = write({ op: "DELETE", atMs: 50 });

/** Each spoils the good history in one way; the invariant must say so. */
const bad: readonly (readonly [invariant: string, name: string, change: Partial<History>])[] = [
  ["I1", "an epoch that went back", { writes: [born, write({ epoch: 3 }), write({ epoch: 2 })] }],
  ["I1", "an epoch on two nodes", { writes: [born, write({ node: "n2" })] }],
  ["I2", "runs on two nodes that overlap", { runs: [run({}), run({ node: "n2", fromMs: 20 })] }],
  ["I4", "a VM that should run and waits", { final: [final({ phase: Phase.PHASE_BOOTING })] }],
  ["I4", "a VM that failed for want of a lease", { final: [final({ phase: Phase.PHASE_FAILED, reason: "LEASE_LOST" })] }],
  ["I4", "a VM that is said to run and does not", { runs: [run({ toMs: 20 })] }],
  ["I4", "a VM that runs and is said to be stopped", { final: [final({ desired: Desired.DESIRED_STOPPED, phase: Phase.PHASE_STOPPED })] }],
  ["I4", "a deleted VM that is there", { final: [final({ desired: Desired.DESIRED_DELETED, phase: Phase.PHASE_DELETING })] }],
  [
    "I4",
    "a VM that should be stopped and stops for ever",
    { final: [final({ desired: Desired.DESIRED_STOPPED, phase: Phase.PHASE_STOPPING })] },
  ],
  ["I4", "a suspended VM that has a VMM", { final: [final({ desired: Desired.DESIRED_SUSPENDED, phase: Phase.PHASE_SUSPENDED })] }],
  ["I4", "a paused VM that has no VMM", { final: [final({ desired: Desired.DESIRED_PAUSED, phase: Phase.PHASE_PAUSED })], runs: [] }],
  ["I4", "a VM that should be paused and runs", { final: [final({ desired: Desired.DESIRED_PAUSED })] }],
  ["I4", "a VM that seems to run on a node that has gone", { gone: ["n1"], runs: [], stored: [] }],
  ["I4", "a VM that is gone and nobody deleted", { final: [], runs: [], writes: [born, deleted] }],
  ["I5", "a VM that runs after it is gone", { writes: [born, deleted], runs: [run({ fromMs: 60, toMs: 70 })] }],
  ["I5", "a VM that goes on when it is gone", { writes: [born, deleted], runs: [run({ toMs: 51 })] }],
  ["I6", "a journal of what is gone", { final: [], runs: [] }],
  ["I6", "a VMM of what is elsewhere", { final: [final({ node: "n2" })] }],
  ["I8", "two VMMs of a VM on one node", { runs: [run({}), run({ fromMs: 20 })] }],
  ["I8", "a generation that was skipped", { final: [final({ generation: 2 })] }],
  ["I8", "two VMs of one request", { writes: [born, write({ op: "INSERT", vm: "b" })] }],
  ["I8", "an answer without a VM", { calls: [call({ requestId: "other" })] }],
  ["I9", "more observed than asked for", { writes: [born, write({ observed: 2 })] }],
  ["I9", "an observation that went back", { writes: [born, write({ observed: 1 }), write({ observed: 0 })] }],
  ["I9", "a generation that went back", { writes: [write({ op: "INSERT", generation: 2 }), write({ generation: 1 })] }],
  ["I10", "a later answer that knows less", { calls: [call({ generation: 2n }), call({ kind: "get", fromMs: 5, toMs: 6 })] }],
  ["I11", "a change that was shown twice", { watched: [...good.watched, { vm: "a", revision: 2, isGone: false }] }],
  ["I11", "changes in the wrong order", { watched: good.watched.toReversed() }],
  ["I11", "a change that was never shown", { watched: good.watched.slice(0, 1) }],
  ["I13", "a node that was given up and was well", { losses: [{ node: "n2", lostMs: 90_000, renewedMs: 60_000 }] }],
  ["I4", "a VM that its node has lost", { final: [final({ phase: Phase.PHASE_FAILED, reason: "VM_LOST" })] }],
  ["I13", "a node that was given up too soon", { losses: [{ node: "n1", lostMs: 20_000, renewedMs: 5_001 }] }],
  ["I14", "more CPU placed than there is", { writes: [born, write({ op: "INSERT", vm: "b", request: "s" })] }],
  ["I15", "a change that is not in the audit log", { audited: [] }],
  ["I15", "a change that is there twice", { audited: ["r", "r"] }],
  ["I15", "a refusal that is there", { calls: [call({ outcome: "refused" })] }],
];

test.each(bad)("%s finds %s", (invariant, _, change) => {
  expect(judge({ ...good, ...change }).map((violation) => violation.invariant)).toContain(invariant);
});

test("every checker is shown something that it must find", () => {
  expect(new Set(bad.map(([invariant]) => invariant))).toEqual(new Set(Object.keys(checkers)));
});

test("a VMM may have been seen to end within the resolution of the database's time", () => {
  const history = { ...good, writes: [born, deleted], runs: [run({ toMs: 60 })], resolutionMs: 100 };
  expect(judge(history).filter(({ invariant }) => invariant === "I5")).toEqual([]);
});
