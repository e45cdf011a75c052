import { join } from "node:path";
import { Desired, Phase, phaseToJSON } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError } from "@pitwall/runtime";
import fc from "fast-check";
import { expect, test } from "vitest";
import { allowedMoves, decide, moves, reportedPhases, stateOf, states, table, type Move, type State } from "./lifecycle.ts";

const desires = {
  RUNNING: Desired.DESIRED_RUNNING,
  PAUSED: Desired.DESIRED_PAUSED,
  SUSPENDED: Desired.DESIRED_SUSPENDED,
  STOPPED: Desired.DESIRED_STOPPED,
  DELETED: Desired.DESIRED_DELETED,
};
const anyState = fc.constantFrom(...states);
const anyMove = fc.constantFrom(...moves);
const phases = [...reportedPhases].toSorted((a, b) => a - b);

function outcome(state: State, move: Move): State | "refused" {
  try {
    const cell = decide(state, move, "web");
    return cell === "as it is" ? state : cell;
  } catch (error) {
    expect(error).toBeInstanceOf(PitwallError);
    return "refused";
  }
}

test("it is what docs/lifecycle.md says; `npx vitest run services/controller/src/vm -u` prints it anew", async () => {
  await expect(print()).toMatchFileSnapshot(join(import.meta.dirname, "..", "..", "..", "..", "docs", "lifecycle.md"));
});

test("a refusal names the state and every move that it allows, and none that it does not", () => {
  fc.assert(
    fc.property(anyState, anyMove, (state, move) => {
      if (table[state][move] !== undefined) return;
      expect(() => decide(state, move, "web")).toThrow(
        expect.objectContaining({
          fault: "state",
          reason: "ILLEGAL_MOVE",
          metadata: { state, allowed: moves.filter((other) => table[state][other] !== undefined).join(",") },
        }),
      );
      expect(() => decide(state, move, "web")).toThrow(`the VM web is ${state}: that does not allow ${move}`);
    }),
  );
});

test("whatever is tried in whatever order, a VM that is being deleted stays so", () => {
  fc.assert(
    fc.property(fc.array(anyMove, { maxLength: 40 }), fc.array(anyMove, { maxLength: 40 }), (before, after) => {
      let state: State = "starting";
      for (const move of [...before, "purge" as const, ...after]) {
        const next = outcome(state, move);
        if (next !== "refused") state = next;
      }
      expect(state).toBe("deleting");
    }),
  );
});

test("a deleted VM comes back by undelete only, and then rests", () => {
  fc.assert(
    fc.property(anyMove, (move) => {
      const next = outcome("deleted", move);
      expect(next === "refused" || next === "deleted" || next === "deleting" || (move === "undelete" && next === "stopped")).toBe(true);
    }),
  );
});

test("start, pause, suspend and delete asked for twice are the same as once", () => {
  fc.assert(
    fc.property(anyState, fc.constantFrom("start", "pause", "suspend", "delete", "purge"), (state, move) => {
      const once = outcome(state, move);
      if (once !== "refused") expect(outcome(once, move)).toBe(once);
    }),
  );
});

test("from every state that is not the end, a way leads to running and to the end", () => {
  const reach = (from: State): ReadonlySet<State> => {
    const seen = new Set<State>([from]);
    for (const state of seen)
      for (const move of allowedMoves(state)) {
        const next = outcome(state, move);
        if (next !== "refused") seen.add(next);
      }
    return seen;
  };
  for (const state of states) {
    expect(reach(state)).toContain("deleting");
    if (state !== "deleting") expect(reach(state)).toContain("starting");
  }
});

test("a row has exactly one state, whatever its node says", () => {
  const anyFacts = fc.record({
    desired: fc.constantFrom(...Object.values(desires)),
    phase: fc.integer({ min: -1, max: 20 }),
    isDeleted: fc.boolean(),
    isStartDue: fc.boolean(),
  });
  fc.assert(fc.property(anyFacts, (facts) => states.includes(stateOf(facts))));
});

function print(): string {
  const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = (count: number): string => row(Array.from({ length: count }, () => "---"));
  const word = (phase: number): string => phaseToJSON(phase as Phase).replace("PHASE_", "");
  return `# The life of a VM

Printed from \`services/controller/src/vm/lifecycle.ts\` by its test. A VM's state follows from what is asked for (\`desired\`) and what its
node has said (\`phase\`). Its owner moves it; what the state does not allow is FAILED_PRECONDITION (ILLEGAL_MOVE) and names the moves that
it does allow.

## Moves

The state after the move. **as it is**: nothing to do, and no fault. Empty: refused. \`DeleteVm\` is *delete* in a project that keeps deleted
VMs for a while (\`undelete_window\`), and *purge*, for good, in others and for a VM that is deleted already. *change* is \`UpdateVm\`,
\`RenameVm\` and \`ExtendVm\`.

${row(["state", ...moves])}
${rule(moves.length + 1)}
${states.map((state) => row([`**${state}**`, ...moves.map((move) => table[state][move] ?? "")])).join("\n")}

## States

The state of a VM for which this is asked, and of which its node has said that. While a start or restart is asked for that the node has not
spoken of, a VM with \`desired\` RUNNING is starting. A VM that was deleted and can be brought back is **deleted** until it is **deleting**.

${row(["phase", ...Object.keys(desires).map((name) => `desired ${name}`)])}
${rule(Object.keys(desires).length + 1)}
${phases.map((phase) => row([word(phase), ...Object.values(desires).map((desired) => (phase === Phase.PHASE_GONE ? (desired === Desired.DESIRED_DELETED ? "gone" : "failed (VM_LOST)") : stateOf({ desired, phase, isDeleted: false, isStartDue: false })))])).join("\n")}

## Paused and suspended

| | paused | suspended |
| --- | --- | --- |
| \`pitwall pause\`, \`pitwall suspend\`; both back with \`pitwall resume\`, which is \`start\` | CPUs stand still | memory is a file in the VM's folder on its node, and no process is left |
| takes of its node | what it took | its disk; the file, at most as large as the VM's memory, is counted nowhere |
| somebody comes by SSH, HTTP or the API | waits and is refused | it wakes, with an entry in the audit log (\`VmWoken\`), if its node has room |
| its node's agent dies | stays as it is | stays as it is |
| its node loses power | fails (MEMORY_LOST); \`start\` boots it | stays as it is |
| its node drains | is stopped | stays |
| its node is away, or lost | says so, and begins anew nowhere | the same |
| it cannot be kept (a full disk, the Firecracker driver) | | it runs on, with the reason SUSPEND_FAILED, and \`desired\` is RUNNING again |
| it cannot be woken | | it stays SUSPENDED with the reason, and its node tries again every 10 s; \`restart\` boots it instead |
| its size was changed meanwhile | takes effect at its next boot | the same |

A guest goes on with its programs, its open files and its own connections within it; its clock is set by its node's and it gets new
entropy as soon as it answers. What it had open to others has mostly timed out. Its memory is removed before its next instruction: it
is never woken twice from the same. Nodes of a capability below 5 are not asked ([link.md](link.md)).

## A start, and where the node is

| the VM's node | \`start\`, \`restart\` and their plans |
| --- | --- |
| has a link | the VM runs there, if there is room |
| is unreachable | taken, with the reason NODE_UNREACHABLE: the VM runs there as soon as the node has a link; if it is lost first, as if it had run ([operate.md](operate.md#nodes-that-go-away)) |
| is lost or fenced, and the VM may be rescheduled | the VM begins anew on another node with an empty disk at once; the plan names that node and what is lost |
| is lost or fenced, and the VM holds | FAILED_PRECONDITION (NODE_LOST) names the node: the VM's disk is there |
| is lost, not fenced, and was lost before it heard that the VM may be rescheduled | the same: it may run the VM still |

A VM that is brought back with \`undelete\` is stopped, wherever its node is: the same holds for its start.

A node's report is taken if it comes from the node that the VM is placed on, on its newest session, with the VM's epoch, and not with a
generation that is older than the last one. A phase that is not in this table is none that a node may speak of.
`;
}
