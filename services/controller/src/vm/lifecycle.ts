// The life of a VM as one table: which of its owner's moves each state allows, what its node's word makes of it, and what the system does of
// itself. docs/lifecycle.md is printed from it.
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

/** What is asked for. */
export const wishes = ["RUNNING", "PAUSED", "SUSPENDED", "STOPPED", "DELETED"] as const;
export type Wish = (typeof wishes)[number];

const wishOf: ReadonlyMap<number, Wish> = new Map([
  [Desired.DESIRED_RUNNING, "RUNNING"],
  [Desired.DESIRED_PAUSED, "PAUSED"],
  [Desired.DESIRED_SUSPENDED, "SUSPENDED"],
  [Desired.DESIRED_STOPPED, "STOPPED"],
  [Desired.DESIRED_DELETED, "DELETED"],
]);

/** What a node's word makes of a VM: a state; `lost`, its node has nothing of it any more; or `gone`, and that was asked for. */
export type Word = State | "lost" | "gone";

const onTheWay = { RUNNING: "starting", PAUSED: "pausing", SUSPENDED: "suspending", STOPPED: "stopping", DELETED: "deleting" } as const;
const atRest = (state: State): { readonly [W in Wish]?: Word } => ({
  ...{ RUNNING: state, PAUSED: state, SUSPENDED: state, STOPPED: state, DELETED: "deleting" },
});
const resuming = { ...onTheWay, RUNNING: "resuming" } as const;

/**
 * A VM's state by the phase that its node says, or was last heard to say, and by what is asked for. An absent cell is a word that no node may
 * say of such a VM: it is refused, and changes nothing.
 */
export const words: { readonly [phase: number]: { readonly [W in Wish]?: Word } } = {
  // The controller's own word, between the acceptance of a VM and its placement: both are one change, so no row has it.
  [Phase.PHASE_PENDING]: {},
  [Phase.PHASE_PLACED]: onTheWay,
  [Phase.PHASE_PREPARING]: onTheWay,
  [Phase.PHASE_BOOTING]: onTheWay,
  [Phase.PHASE_RUNNING]: { ...onTheWay, RUNNING: "running" },
  [Phase.PHASE_PAUSED]: { ...resuming, PAUSED: "paused" },
  [Phase.PHASE_SUSPENDING]: resuming,
  [Phase.PHASE_SUSPENDED]: { ...resuming, SUSPENDED: "suspended" },
  [Phase.PHASE_RESUMING]: resuming,
  [Phase.PHASE_STOPPING]: onTheWay,
  [Phase.PHASE_STOPPED]: atRest("stopped"),
  [Phase.PHASE_FAILED]: atRest("failed"),
  // Of what nobody has asked to delete, nothing may be deleted.
  [Phase.PHASE_DELETING]: { DELETED: "deleting" },
  [Phase.PHASE_GONE]: { RUNNING: "lost", PAUSED: "lost", SUSPENDED: "lost", STOPPED: "lost", DELETED: "gone" },
};

/** Undefined: its node may not say that. */
export function wordOf(desired: number, phase: number): Word | undefined {
  const wish = wishOf.get(desired);
  return wish && Object.hasOwn(words, phase) ? words[phase]?.[wish] : undefined;
}

export function stateOf({ desired, phase, isDeleted, isStartDue }: Facts): State {
  const wish = wishOf.get(desired) ?? "RUNNING";
  if (wish === "DELETED") return "deleting";
  if (isDeleted) return "deleted";
  if (isStartDue && wish !== "STOPPED") return "starting";
  const word = wordOf(desired, phase);
  return word === undefined || word === "lost" || word === "gone" ? onTheWay[wish] : word;
}

/** What happens to VMs without their owner's doing, and by another word than a phase of their node's. */
export const causes = [
  "placed",
  "begins anew",
  "drained",
  "drain called off",
  "expired",
  "purged",
  "woken",
  "not suspended",
  "lost",
  "removed",
] as const;
export type Cause = (typeof causes)[number];

/** What no row holds: a VM that is not placed yet, and one of which nothing is left. */
export type Beyond = "pending" | "gone";

const ofAll = { expired: "deleted", lost: "failed" } as const;
const ofUp = { ...ofAll, drained: "stopping" } as const;

/** An absent cell is what must not happen then: whoever is about to do it does nothing. */
export const effects: { readonly [S in State | "pending"]: { readonly [C in Cause]?: State | Beyond } } = {
  pending: { placed: "starting" },
  starting: { ...ofUp, "begins anew": "starting", "not suspended": "starting" },
  running: { ...ofUp, "begins anew": "starting" },
  pausing: ofUp,
  paused: ofUp,
  suspending: { ...ofAll, woken: "resuming", "not suspended": "running" },
  suspended: { ...ofAll, woken: "resuming", "not suspended": "running" },
  resuming: { ...ofUp, "begins anew": "starting" },
  stopping: { ...ofAll, "drain called off": "starting" },
  stopped: { ...ofAll, drained: "stopped", "begins anew": "starting", "drain called off": "starting", "not suspended": "running" },
  failed: { ...ofAll, drained: "failed", "begins anew": "starting", "drain called off": "starting", "not suspended": "running" },
  deleted: { purged: "deleting", lost: "deleted" },
  deleting: { removed: "gone" },
};

/** Throws unless the table lets this happen to a VM in this state: whoever does it has overlooked something. */
export function follow(state: State, cause: Cause, name: string): State | Beyond {
  const next = effects[state][cause];
  if (next === undefined) throw new Error(`the VM ${name} is ${state}: that does not allow "${cause}"`);
  return next;
}
