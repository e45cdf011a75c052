// I10: a VM as a register that holds what its owner wants and a generation; whether the answers about it fit some order of what was asked.
import type { SimCall, SimHistory, SimWrite, Wish } from "../observer/sim-history.ts";
import { hasOrder, type Step } from "./order.ts";

interface State {
  readonly wish: Wish | "absent" | "gone";
  readonly generation: number;
}

const absent: State = { wish: "absent", generation: 0 };

/** What each kind of call may make of a state. What a node says decides whether a start, or a stop, changes anything. */
const outcomes: Readonly<Record<string, (state: State) => readonly State[]>> = {
  create: ({ wish }) => (wish === "absent" ? [{ wish: "running", generation: 1 }] : []),
  get: (state) => (isThere(state) ? [state] : []),
  // What it has in memory is on its way to the disk, or there: a pause of that is none.
  pause: (state) => [...(state.wish === "paused" ? [state] : []), ...(state.wish === "running" ? owned(state, "paused") : [])],
  suspend: (state) => [...(isStill(state) ? [state] : []), ...(state.wish === "stopped" ? [] : owned(state, "suspended"))],
  start: (state) => [...(state.wish === "running" ? [state] : []), ...owned(state, "running")],
  stop: (state) => [...(state.wish === "stopped" ? [state] : []), ...owned(state, "stopped")],
  restart: (state) => owned(state, "running"),
  update: (state) => owned(state, state.wish),
  rename: (state) => owned(state, state.wish),
  undelete: (state) => (state.wish === "held" ? [next(state, "stopped")] : []),
  delete: (state) => {
    if (state.wish === "deleted") return [state];
    return state.wish === "held" ? [next(state, "deleted")] : [...owned(state, "held"), ...owned(state, "deleted")];
  },
};

const isStill = ({ wish }: State): boolean => wish === "paused" || wish === "suspended";
const isThere = ({ wish }: State): boolean => wish !== "absent" && wish !== "gone";
const next = ({ generation }: State, wish: State["wish"]): State => ({ wish, generation: generation + 1 });

/** A change of a VM that nobody has deleted. */
function owned(state: State, wish: State["wish"]): readonly State[] {
  return state.wish === "running" || state.wish === "stopped" || isStill(state) ? [next(state, wish)] : [];
}

/** In words, what does not fit. */
export function answersFitAnOrder({ calls, writes, ownChanges }: SimHistory): string[] {
  const own = new Set(ownChanges.map(({ vm, generation }) => `${vm}/${generation}`));
  const wrong: string[] = [];
  for (const [vm, its] of Map.groupBy(calls, (call) => call.vm)) {
    const vmId = its.find(({ kind, vmId: id }) => kind === "create" && id !== undefined)?.vmId;
    if (vmId === undefined) continue; // nobody was told of one
    const rows = writes.filter((write) => write.vm === vmId);
    const steps: Step<State>[] = its.flatMap((call) => stepOf(call) ?? []);
    const seen = new Map<number, SimWrite["wish"]>();
    for (const { op, generation, wish, atMs } of rows) {
      if (op === "DELETE") steps.push(happened(atMs, (state) => (state.wish === "deleted" ? [{ ...state, wish: "gone" }] : [])));
      else if (!seen.has(generation) && own.has(`${vmId}/${generation}`))
        steps.push(happened(atMs, (state) => (isThere(state) && state.generation === generation - 1 ? [{ wish, generation }] : [])));
      // What could not be suspended runs on, and is asked to.
      else if (seen.get(generation) === "suspended" && wish === "running")
        steps.push(
          happened(atMs, (state) => (state.wish === "suspended" && state.generation === generation ? [{ wish, generation }] : [])),
        );
      seen.set(generation, wish);
    }
    if (!hasOrder(steps, absent, ({ wish, generation }) => `${wish} ${generation}`))
      wrong.push(`VM ${vm} (${vmId}): no order explains ${its.map(told).join(", ")}`);
  }
  return wrong;
}

/** Undefined: it says nothing. */
function stepOf({ kind, outcome, fromMs, toMs, generation, wish, fault }: SimCall): Step<State> | undefined {
  const possible = outcomes[kind];
  if (!possible) return undefined;
  if (outcome === "unknown") return kind === "get" ? undefined : happened(fromMs, possible);
  if (outcome === "refused") return fault === "not-found" ? { fromMs, toMs, from: (state) => (isThere(state) ? [] : [state]) } : undefined;
  return {
    fromMs,
    toMs,
    from: (state) => possible(state).filter((after) => after.wish === wish && BigInt(after.generation) === generation),
  };
}

/** At some time from then on, or never. */
function happened(fromMs: number, from: Step<State>["from"]): Step<State> {
  return { fromMs, toMs: Infinity, from };
}

function told({ kind, outcome, fromMs, toMs, generation, wish, fault }: SimCall): string {
  const answer = outcome === "ok" ? `${wish} ${generation}` : outcome === "refused" ? fault : "?";
  return `${kind} ${fromMs}–${outcome === "unknown" ? "" : toMs} ms: ${answer}`;
}
