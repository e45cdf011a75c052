// The life of a VM as one table: which of its owner's moves each state allows, and what a VM's row and its node's word make of a state.
// docs/lifecycle.md is printed from it.
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError } from "@pitwall/runtime";

export const states = [
  "starting",
  "running",
  "pausing",
  "paused",
  "suspending",
  "suspended",
  "resuming",
  "stopping",
  "stopped",
  "failed",
  "deleted",
  "deleting",
] as const;
/** `deleted` can be brought back; of `deleting` nothing will be left. */
export type State = (typeof states)[number];

export const moves = ["start", "pause", "suspend", "stop", "restart", "change", "delete", "undelete", "purge"] as const;
/**
 * `start` lets a paused or suspended VM go on. `change` is every other change: size, labels, name, end of life. `purge` deletes for good.
 */
export type Move = (typeof moves)[number];

/** An absent cell is an illegal move; `as it is` changes nothing and is no fault. */
export type Cell = State | "as it is";

export const table: { readonly [S in State]: { readonly [M in Move]?: Cell } } = {
  starting: { start: "as it is", stop: "stopping", restart: "starting", change: "starting", delete: "deleted", purge: "deleting" },
  running: { start: "as it is", pause: "pausing", suspend: "suspending", ...ends("running") },
  pausing: { start: "resuming", pause: "as it is", suspend: "suspending", ...ends("pausing") },
  paused: { start: "resuming", pause: "as it is", suspend: "suspending", ...ends("paused") },
  suspending: { start: "resuming", suspend: "as it is", ...ends("suspending") },
  suspended: { start: "resuming", suspend: "as it is", ...ends("suspended") },
  resuming: { start: "as it is", ...ends("resuming") },
  stopping: { start: "starting", stop: "as it is", change: "stopping", delete: "deleted", purge: "deleting" },
  stopped: { start: "starting", stop: "as it is", change: "stopped", delete: "deleted", purge: "deleting" },
  failed: { start: "starting", stop: "stopping", restart: "starting", change: "failed", delete: "deleted", purge: "deleting" },
  deleted: { delete: "as it is", undelete: "stopped", purge: "deleting" },
  deleting: { delete: "as it is", purge: "as it is" },
};

/** What can be done to each VM that has something in memory. */
function ends(state: State): { readonly [M in Move]?: Cell } {
  return { stop: "stopping", restart: "starting", change: state, delete: "deleted", purge: "deleting" };
}

/** Why a move is none that a person would think of, for those who try it. */
const hints: { readonly [S in State]?: { readonly [M in Move]?: string } } = {
  starting: { pause: "wait until it runs", suspend: "wait until it runs" },
  resuming: { pause: "wait until it runs", suspend: "wait until it runs" },
  suspending: { pause: "start it, and it goes on" },
  suspended: { pause: "start it, and it goes on" },
  stopped: { restart: "start it", pause: "start it first", suspend: "start it first", undelete: "it is not deleted" },
  failed: { pause: "start it first", suspend: "start it first" },
  stopping: { restart: "start it: it then begins anew" },
  deleted: { start: "undelete it first", stop: "undelete it first", restart: "undelete it first", change: "undelete it first" },
  deleting: { undelete: "its time to be brought back is over" },
};

/** What the move makes of the state. Throws `state` (ILLEGAL_MOVE) with the state and the moves that it allows. */
export function decide(state: State, move: Move, name: string): Cell {
  const cell = table[state][move];
  if (cell !== undefined) return cell;
  const allowed = allowedMoves(state);
  const hint = hints[state]?.[move];
  const message = `the VM ${name} is ${state}: that does not allow ${move}${hint === undefined ? "" : ` (${hint})`}; it allows ${allowed.join(", ")}`;
  throw new PitwallError("state", message, { reason: "ILLEGAL_MOVE", metadata: { state, allowed: allowed.join(",") } });
}

export function allowedMoves(state: State): Move[] {
  return moves.filter((move) => table[state][move] !== undefined);
}

/** What of a row says in which state its VM is. */
export interface Facts {
  readonly desired: number;
  readonly phase: number;
  readonly isDeleted: boolean;
  /** A start was asked for that the phase does not speak of yet. */
  readonly isStartDue: boolean;
}

/** In which a node says that a VM has come to rest. */
const restOf: ReadonlyMap<number, State> = new Map([
  [Phase.PHASE_STOPPED, "stopped"],
  [Phase.PHASE_FAILED, "failed"],
]);
/** What is made of a phase while the VM should run. */
const upOf: ReadonlyMap<number, State> = new Map([
  [Phase.PHASE_RUNNING, "running"],
  [Phase.PHASE_PAUSED, "resuming"],
  [Phase.PHASE_SUSPENDING, "resuming"],
  [Phase.PHASE_SUSPENDED, "resuming"],
  [Phase.PHASE_RESUMING, "resuming"],
]);

export function stateOf({ desired, phase, isDeleted, isStartDue }: Facts): State {
  if (desired === Desired.DESIRED_DELETED) return "deleting";
  if (isDeleted) return "deleted";
  const rest = restOf.get(phase);
  if (desired === Desired.DESIRED_STOPPED) return rest ?? "stopping";
  if (isStartDue) return "starting";
  if (rest !== undefined) return rest;
  if (desired === Desired.DESIRED_RUNNING) return upOf.get(phase) ?? "starting";
  if (desired === Desired.DESIRED_PAUSED) return phase === Phase.PHASE_PAUSED ? "paused" : "pausing";
  return phase === Phase.PHASE_SUSPENDED ? "suspended" : "suspending";
}

/** Phases that a node may speak of; the others are the controller's own words, or none. */
export const reportedPhases: ReadonlySet<number> = new Set(
  Object.values(Phase).filter(
    (phase) => phase !== Phase.PHASE_UNSPECIFIED && phase !== Phase.PHASE_PENDING && phase !== Phase.UNRECOGNIZED,
  ),
);
