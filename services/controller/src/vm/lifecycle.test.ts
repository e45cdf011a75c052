import { join } from "node:path";
import { Desired, Phase, phaseToJSON } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError } from "@pitwall/runtime";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  allowedMoves,
  causes,
  decide,
  effects,
  follow,
  moves,
  stateOf,
  states,
  table,
  wishes,
  wordOf,
  words,
  type Facts,
  type Move,
  type State,
} from "./lifecycle.ts";

const desires = {
  RUNNING: Desired.DESIRED_RUNNING,
  PAUSED: Desired.DESIRED_PAUSED,
  SUSPENDED: Desired.DESIRED_SUSPENDED,
  STOPPED: Desired.DESIRED_STOPPED,
  DELETED: Desired.DESIRED_DELETED,
};
const anyState = fc.constantFrom(...states);
const anyMove = fc.constantFrom(...moves);
const phases = Object.keys(words).map(Number);

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
  fc.assert(fc.property(anyFacts, fc.integer({ min: -1, max: 20 }), (facts, phase) => states.includes(stateOf({ ...facts, phase }))));
});

const anyFacts: fc.Arbitrary<Facts> = fc.record({
  desired: fc.constantFrom(...Object.values(desires)),
  phase: fc.constantFrom(...phases),
  isDeleted: fc.boolean(),
  isStartDue: fc.boolean(),
});

test("every phase has its row, and what a node may say of a VM is the state that it is in then", () => {
  expect(phases).toEqual(
    Object.values(Phase)
      .filter((phase) => phase !== Phase.PHASE_UNSPECIFIED && phase !== Phase.UNRECOGNIZED)
      .toSorted((a, b) => a - b),
  );
  for (const desired of Object.values(desires))
    for (const phase of phases) {
      const word = wordOf(desired, phase);
      if (word === undefined || word === "lost" || word === "gone") continue;
      expect(stateOf({ desired, phase, isDeleted: false, isStartDue: false })).toBe(word);
    }
});

test("no word of a node is taken that would delete what nobody has asked to delete, or that is the controller's own", () => {
  for (const desired of Object.values(desires)) {
    const isDeletion = desired === Desired.DESIRED_DELETED;
    expect(wordOf(desired, Phase.PHASE_DELETING)).toBe(isDeletion ? "deleting" : undefined);
    expect(wordOf(desired, Phase.PHASE_GONE)).toBe(isDeletion ? "gone" : "lost");
    for (const phase of [Phase.PHASE_UNSPECIFIED, Phase.PHASE_PENDING, Phase.UNRECOGNIZED, 99])
      expect(wordOf(desired, phase)).toBeUndefined();
  }
});

/** What the code that brings a cause about asks of a row first, and what it then makes of what is asked for. */
const brought: {
  readonly [C in (typeof causes)[number]]?: { readonly when: (facts: Facts) => boolean; readonly becomes: Partial<Facts> };
} = {
  "begins anew": {
    when: ({ desired }) => desired === Desired.DESIRED_RUNNING,
    becomes: { desired: Desired.DESIRED_RUNNING, phase: Phase.PHASE_PLACED, isStartDue: true },
  },
  drained: {
    when: ({ desired }) => desired === Desired.DESIRED_RUNNING || desired === Desired.DESIRED_PAUSED,
    becomes: { desired: Desired.DESIRED_STOPPED },
  },
  expired: { when: ({ desired, isDeleted }) => desired !== Desired.DESIRED_DELETED && !isDeleted, becomes: { isDeleted: true } },
  purged: {
    when: ({ desired, isDeleted }) => desired !== Desired.DESIRED_DELETED && isDeleted,
    becomes: { desired: Desired.DESIRED_DELETED },
  },
  lost: { when: ({ desired }) => desired !== Desired.DESIRED_DELETED, becomes: { phase: Phase.PHASE_FAILED, isStartDue: false } },
};

test("what the system does by itself is what it makes of a row", () => {
  fc.assert(
    fc.property(anyFacts, fc.constantFrom(...(Object.keys(brought) as (keyof typeof brought)[])), (facts, cause) => {
      const how = brought[cause];
      // What was deleted has nothing else asked for than a stop.
      if (!how?.when(facts) || (facts.isDeleted && facts.desired !== Desired.DESIRED_STOPPED)) return;
      const before = stateOf(facts);
      const after = stateOf({ ...facts, ...how.becomes });
      const next = follow(before, cause, "web");
      // A VM that is at rest already while a start is due, has nothing to stop.
      if (cause === "drained" && before === "starting") expect(["stopping", "stopped", "failed"]).toContain(after);
      else expect(after).toBe(next);
    }),
  );
});

test("what must not happen to a VM is refused, and named", () => {
  expect(() => follow("suspended", "begins anew", "web")).toThrow('the VM web is suspended: that does not allow "begins anew"');
  for (const cause of causes) if (cause !== "removed") expect(effects.deleting[cause]).toBeUndefined();
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

## What a node may say

The state of a VM for which this is asked, and of which its node says that. While a start or restart is asked for that the node has not
spoken of, a VM with \`desired\` RUNNING is starting. A VM that was deleted and can be brought back is **deleted** until it is **deleting**. **lost**: the
VM has failed (VM_LOST). Empty: no node may say that of such a VM. It is refused, with an entry in the audit log (\`ReportRefused\`), and changes nothing.

${row(["phase", ...wishes.map((name) => `desired ${name}`)])}
${rule(wishes.length + 1)}
${phases.map((phase) => row([word(phase), ...wishes.map((wish) => words[phase]?.[wish] ?? "")])).join("\n")}

PENDING is between the acceptance of a VM and its placement, which are one change: no answer and no event has it. A create that finds no node is refused.

## What happens by itself

The state after it. Empty: it does not happen to such a VM; a controller that is about to do it all the same does not, and says so in its log.

${row(["state", ...causes])}
${rule(causes.length + 1)}
${(["pending", ...states] as const).map((state) => row([`**${state}**`, ...causes.map((cause) => effects[state][cause] ?? "")])).join("\n")}

| | when |
| --- | --- |
| placed | with its creation |
| begins anew | its node is lost and it may be rescheduled ([operate.md](operate.md#nodes-that-go-away)), or it has left a node that is drained; on another node, with an empty disk |
| drained | its node is drained; a VM that may be rescheduled then begins anew. A paused one only stops, and a suspended one stays |
| drain called off | it was stopped to begin anew elsewhere, and the drain was called off, or there is no room elsewhere any more |
| expired | its \`expire_time\` is over: as \`DeleteVm\`, and so **deleting** at once in a project without an \`undelete_window\` |
| purged | its \`purge_time\` is over |
| woken | somebody came to it by SSH, HTTP or the API |
| not suspended | its node could not keep it (SUSPEND_FAILED): RUNNING is asked for again |
| lost | its node says GONE, or a complete inventory lacks it |
| removed | its node says GONE, or was fenced: nothing is left |

A node that is away or lost changes the reason of its VMs (NODE_UNREACHABLE, NODE_LOST), not their state, until they begin anew. That a node ended a VM
for want of a lease is its word FAILED (LEASE_LOST); it says PREPARING again when it hears that the VM is still its own. What the restart policy starts again
is the image's process, within a VM that runs on ([guest.md](guest.md)).

## Paused and suspended

| | paused | suspended |
| --- | --- | --- |
| \`pitwall pause\`, \`pitwall suspend\`; both back with \`pitwall resume\`, which is \`start\` | CPUs stand still | memory is a file in the VM's folder on its node, and no process is left |
| takes of its node | what it took | its disk; the file, at most as large as the VM's memory, is counted nowhere |
| somebody comes by SSH, HTTP or the API | waits and is refused | it wakes, with an entry in the audit log (\`VmWoken\`), if its node has room |
| its node's agent dies | stays as it is | stays as it is |
| its node loses power | fails (MEMORY_LOST); \`start\` boots it | stays as it is |
| its node drains | is stopped; it begins anew nowhere, nor here when the drain is called off | stays |
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
generation that is older than the last one; and if a node may say that of it (see above).
`;
}
