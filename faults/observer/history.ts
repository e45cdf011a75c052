// What was seen of one run, by watchers that are no part of what they watch. Times are milliseconds since the begin.

export type VmCallKind =
  | "create"
  | "get"
  | "start"
  | "stop"
  | "restart"
  | "pause"
  | "suspend"
  | "update"
  | "rename"
  | "delete"
  | "undelete";
export type CallKind = VmCallKind | "cordon" | "uncordon" | "drain" | "fence";

/** A call as its client saw it. */
export interface Call {
  readonly kind: CallKind;
  /** Of the schedule's VM, from 0. -1: none, it was of a node. */
  readonly vm: number;
  readonly vmId: string | undefined;
  readonly requestId: string;
  readonly fromMs: number;
  readonly toMs: number;
  /** `unknown`: no answer came, or one that leaves open whether it happened. */
  readonly outcome: "ok" | "refused" | "unknown";
  /** The generation of an answer. */
  readonly generation: bigint | undefined;
  readonly message: string;
}

/** A write of a VM's row, in the order in which the database made them: what a trigger saw. */
export interface RowWrite {
  readonly seq: number;
  readonly atMs: number;
  readonly op: "INSERT" | "UPDATE" | "DELETE";
  readonly vm: string;
  readonly node: string;
  readonly epoch: number;
  readonly generation: number;
  readonly observed: number;
  readonly desired: number;
  readonly phase: number;
  readonly cpuMillis: number;
  readonly memBytes: number;
  /** Which create made it. */
  readonly request: string;
}

/** A VMM's life, seen below its driver. `toMs` is undefined for one that lives. */
export interface Run {
  readonly vm: string;
  readonly node: string;
  readonly fromMs: number;
  toMs: number | undefined;
}

/** One message of a watch that is resumed for as long as the run goes. */
export interface Watched {
  readonly vm: string;
  readonly revision: number;
  readonly isGone: boolean;
}

export interface FinalVm {
  readonly vm: string;
  readonly node: string;
  readonly desired: number;
  readonly phase: number;
  readonly reason: string;
  readonly generation: number;
  readonly observed: number;
  readonly revision: number;
}

export interface SessionLoss {
  readonly node: string;
  readonly lostMs: number;
  readonly renewedMs: number;
}

export interface Trouble {
  readonly node: string;
  readonly fromMs: number;
  readonly toMs: number;
}

export interface History {
  readonly calls: readonly Call[];
  readonly writes: readonly RowWrite[];
  readonly runs: readonly Run[];
  readonly watched: readonly Watched[];
  /** All that a watch must have shown. */
  readonly events: readonly { readonly vm: string; readonly revision: number }[];
  readonly final: readonly FinalVm[];
  /** Journals left, by node. */
  readonly stored: readonly { readonly node: string; readonly vm: string }[];
  /** What nodes have. */
  readonly capacity: { readonly cpuMillis: number; readonly memBytes: number };
  /** Nodes that went and did not come back: what of a VM is there stays there. */
  readonly gone: readonly string[];
  readonly losses: readonly SessionLoss[];
  /** When something was wrong with a node, or with its way to any controller. */
  readonly troubles: readonly Trouble[];
  /** The controllers' patience: lease and fence. */
  readonly patienceMs: number;
  /** By so much the time of a write may lie behind that of what it followed. */
  readonly resolutionMs: number;
  /** Request ids in the audit log, one for each entry. */
  readonly audited: readonly string[];
}

export interface Violation {
  readonly invariant: string;
  readonly message: string;
}
