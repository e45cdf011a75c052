import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { expect, test } from "vitest";
import type { SimCall, SimFinalVm, SimHistory, SimRun, SimWrite } from "../observer/sim-history.ts";
import { judgeSim, simCheckers } from "./sim-checkers.ts";

const write = (change: Partial<SimWrite>): SimWrite => ({
  ...{ seq: 1, atMs: 0, op: "UPDATE", vm: "a", node: "n1", epoch: 1, generation: 1, observed: 1, request: "r", name: "one" },
  ...{ ownsName: true, desired: Desired.DESIRED_RUNNING, wish: "running", phase: Phase.PHASE_RUNNING, cpuMillis: 100, memBytes: 100 },
  ...{ reason: "", saidBy: "n1/1", session: "n1/1" },
  ...change,
});
const born = write({ op: "INSERT", observed: 0, phase: Phase.PHASE_PLACED, saidBy: "" });
const run = (change: Partial<SimRun>): SimRun => ({ vm: "a", node: "n1", fromMs: 10, toMs: undefined, dir: "/a", pid: 1, ...change });
const call = (change: Partial<SimCall>): SimCall => ({
  ...{ kind: "create", vm: 0, vmId: "a", requestId: "r", fromMs: 0, toMs: 1, outcome: "ok", generation: 1n, message: "" },
  ...{ wish: "running", fault: "" },
  ...change,
});
const final: SimFinalVm = {
  ...{ vm: "a", node: "n1", desired: Desired.DESIRED_RUNNING, phase: Phase.PHASE_RUNNING, reason: "", hostKey: "key a" },
  ...{ generation: 1, observed: 1, revision: 1, epoch: 1, cpuMillis: 100, movesSince: 0 },
};
/** On a node that has gone, while another has room. */
const stranded: Partial<SimHistory> = {
  ...{ gone: ["n1"], final: [{ ...final, reason: "NODE_LOST" }], stored: [], runs: [run({ toMs: 20 })] },
  writes: [
    born,
    write({ saidBy: "n1/1", observed: 1 }),
    write({ op: "INSERT", vm: "b", node: "n2", name: "b" }),
    write({ op: "DELETE", vm: "b", node: "n2", name: "b" }),
  ],
};

/** A VM that was made, runs, and was watched. */
const good: SimHistory = {
  ...{ calls: [call({})], writes: [born, write({})], runs: [run({})], watched: [{ vm: "a", revision: 1, isGone: false }] },
  ...{ events: [{ vm: "a", revision: 1 }], final: [final], stored: [{ node: "n1", vm: "a" }], gone: [], losses: [], audited: ["r"] },
  ...{ capacity: { cpuMillis: 500, memBytes: 500 }, patienceMs: 15_000, resolutionMs: 0, ownChanges: [], troubles: [] },
  ...{ peaks: { timers: { peak: 5, cap: 5 } }, probe: { runningMs: 500, goneMs: 500 }, struck: [] },
};

test("nothing is wrong with a history in which all went well", () => {
  expect(judgeSim(good)).toEqual([]);
});

const stopped = call({ kind: "stop", requestId: "s", fromMs: 10, toMs: 11, generation: 2n, wish: "stopped" });
const suspended = { ...stopped, kind: "suspend", wish: "suspended" } as const;
const read = (change: Partial<SimCall>): SimCall => call({ kind: "get", requestId: "", fromMs: 20, toMs: 21, ...change });
const gone: Partial<SimCall> = { outcome: "refused", fault: "not-found", generation: undefined, wish: undefined };
const deleted = call({ kind: "delete", requestId: "d", fromMs: 10, toMs: 11, generation: 2n, wish: "deleted" });

/** Each spoils the good history in one way; the invariant must say so. */
const bad: readonly (readonly [invariant: string, name: string, change: Partial<SimHistory>])[] = [
  [
    "I4",
    "a VM that was said to be lost, and was not",
    { writes: [born, write({ phase: Phase.PHASE_FAILED, reason: "VM_LOST" }), write({})] },
  ],
  ["I4", "a VM that may begin anew, and waits for a node that has gone", stranded],
  ["I7", "two processes of one number", { runs: [run({}), run({ vm: "b", dir: "/b", fromMs: 20 })] }],
  ["I7", "two VMs in one folder", { runs: [run({}), run({ vm: "b", pid: 2, fromMs: 20 })] }],
  ["I7", "two VMs of one name", { writes: [born, write({ vm: "b", op: "INSERT" })] }],
  ["I7", "a VM that is given back the name of another", { writes: [born, write({ vm: "b", name: "two" }), write({ vm: "b" })] }],
  ["I7", "a VM that is brought back to the name of another", { writes: [{ ...born, ownsName: false }, write({ vm: "b" }), write({})] }],
  ["I7", "two VMs of one host key", { final: [final, { ...final, vm: "b" }] }],
  ["I10", "a read that does not see what was answered before it", { calls: [call({}), stopped, read({})] }],
  ["I10", "a read of what nobody asked for", { calls: [call({}), read({ generation: 2n, wish: "stopped" })] }],
  ["I10", "a right generation with a wrong wish", { calls: [call({}), stopped, read({ generation: 2n, wish: "running" })] }],
  ["I10", "two changes of one generation", { calls: [call({}), stopped, { ...stopped, kind: "restart", wish: "running" }] }],
  ["I10", "a change that left a generation out", { calls: [call({}), { ...stopped, generation: 3n }] }],
  ["I10", "a VM that is missing while it is there", { calls: [call({}), read(gone)] }],
  [
    "I10",
    "a VM that is there again when it was gone",
    { calls: [call({}), deleted, read(gone), read({ fromMs: 30, toMs: 31, generation: 2n, wish: "deleted" })] },
  ],
  ["I10", "an undelete of what was not deleted", { calls: [call({}), { ...stopped, kind: "undelete" }] }],
  ["I10", "a change of the system's that comes before it was written", { ownChanges: [{ vm: "a", generation: 2 }], ...ownStop(30) }],
  ["I10", "a pause of what is stopped", { calls: [call({}), stopped, { ...stopped, kind: "pause", generation: 3n, wish: "paused" }] }],
  [
    "I10",
    "a VM that was suspended and runs by itself",
    { calls: [call({}), suspended, read({ generation: 2n })], writes: [born, write({ generation: 2, wish: "suspended" })] },
  ],
  ["I12", "what an older session said", { writes: [born, write({ session: "n1/2" })] }],
  ["I12", "what the session of another node said", { writes: [born, write({ saidBy: "n2/1" })] }],
  ["I16", "more than there may be", { peaks: { timers: { peak: 6, cap: 5 } } }],
  ["I18", "a new VM that does not run", { probe: { runningMs: undefined, goneMs: undefined } }],
  ["I18", "a new VM that does not go", { probe: { runningMs: 500, goneMs: undefined } }],
];

/** The system stops the VM by itself at that time, and a read sees it at 20 ms. */
function ownStop(atMs: number): Partial<SimHistory> {
  return { calls: [call({}), read({ generation: 2n, wish: "stopped" })], writes: [born, write({ generation: 2, wish: "stopped", atMs })] };
}

test.each(bad)("%s finds %s", (invariant, _, change) => {
  expect(judgeSim({ ...good, ...change }).map((violation) => violation.invariant)).toContain(invariant);
});

test("every checker is shown something that it must find", () => {
  expect(new Set(bad.map(([invariant]) => invariant))).toEqual(new Set(Object.keys(simCheckers)));
});

/** What may well be, however odd it looks. */
const fine: readonly (readonly [name: string, change: Partial<SimHistory>])[] = [
  ["a read beside a change sees either", { calls: [call({}), { ...stopped, toMs: 50 }, read({})] }],
  [
    "a change without an answer may show later",
    { calls: [call({}), { ...stopped, outcome: "unknown" }, read({ generation: 2n, wish: "stopped" })] },
  ],
  ["a change without an answer may never show", { calls: [call({}), { ...stopped, outcome: "unknown" }, read({})] }],
  ["a start of what runs is no change", { calls: [call({}), { ...stopped, kind: "start", generation: 1n, wish: "running" }] }],
  [
    "what is paused can be suspended, and goes on",
    {
      calls: [
        call({}),
        { ...stopped, kind: "pause", wish: "paused" },
        { ...suspended, fromMs: 12, toMs: 13, generation: 3n },
        { ...stopped, kind: "start", fromMs: 14, toMs: 15, generation: 4n, wish: "running" },
      ],
    },
  ],
  [
    "what could not be suspended runs on",
    {
      calls: [call({}), suspended, read({ generation: 2n })],
      writes: [born, write({ generation: 2, wish: "suspended", atMs: 11 }), write({ generation: 2, atMs: 15 })],
    },
  ],
  ["what the system did by itself is seen", { ownChanges: [{ vm: "a", generation: 2 }], ...ownStop(15) }],
  [
    "a VM that was deleted leaves its name to another, also while it is removed for good",
    {
      calls: [],
      writes: [
        born,
        write({ ownsName: false, wish: "held" }),
        write({ vm: "b", op: "INSERT" }),
        write({ ownsName: false, wish: "deleted", desired: Desired.DESIRED_DELETED }),
        write({ vm: "b" }),
      ],
    },
  ],
  ["a VM that is gone is missing", { calls: [call({}), deleted, read(gone)], writes: [born, write({ op: "DELETE", atMs: 15 })] }],
];

test.each(fine)("%s", (_, change) => {
  expect(judgeSim({ ...good, ...change }).filter(({ invariant }) => invariant === "I7" || invariant === "I10")).toEqual([]);
});
