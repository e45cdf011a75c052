// What the layer sim sees beyond what every layer does.
import { Desired } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { StepName } from "@pitwall/runtime";
import type { Call, FinalVm, History, RowWrite, Run } from "./history.ts";

/** What a VM's owner wants of it, as the API says it. `held`: it is deleted, and can be brought back. */
export type Wish = "running" | "paused" | "suspended" | "stopped" | "held" | "deleted";
/** Of a VM that is not deleted, by what is asked for. */
export const wishes: ReadonlyMap<number, Wish> = new Map([
  [Desired.DESIRED_RUNNING, "running"],
  [Desired.DESIRED_PAUSED, "paused"],
  [Desired.DESIRED_SUSPENDED, "suspended"],
  [Desired.DESIRED_STOPPED, "stopped"],
]);

export interface SimCall extends Call {
  /** Of an answer that holds a VM. */
  readonly wish: Wish | undefined;
  /** Kind of a refusal; empty otherwise. */
  readonly fault: string;
}

export interface SimWrite extends RowWrite {
  readonly name: string;
  /** No other VM may have it. One that was deleted, and can be brought back or could be until now, has left its name to others. */
  readonly ownsName: boolean;
  readonly wish: Wish;
  /** Of its phase. */
  readonly reason: string;
  /** `NODE/EPOCH` of the session by whose word the row was written; empty: by nobody's. */
  readonly saidBy: string;
  /** The same of the newest session of the row's node at that moment. */
  readonly session: string;
}

export interface SimRun extends Run {
  readonly dir: string;
  readonly pid: number;
}

export interface SimFinalVm extends FinalVm {
  readonly hostKey: string;
  readonly cpuMillis: number;
  readonly epoch: number;
  /** The generation since which it may begin anew elsewhere when its node is lost; undefined: it may not. */
  readonly movesSince: number | undefined;
}

/** The most that was seen of something, and what there may be. */
export interface Peak {
  readonly peak: number;
  readonly cap: number;
}

/** A VM that was asked for in the calm, awaited and deleted. Undefined: it did not come to that. */
export interface Probe {
  readonly runningMs: number | undefined;
  readonly goneMs: number | undefined;
}

export interface SimHistory extends History {
  readonly calls: readonly SimCall[];
  readonly writes: readonly SimWrite[];
  readonly runs: readonly SimRun[];
  readonly final: readonly SimFinalVm[];
  /** Generations that the system gave by itself. */
  readonly ownChanges: readonly { readonly vm: string; readonly generation: number }[];
  readonly peaks: Readonly<Record<string, Peak>>;
  readonly probe: Probe;
  /** The failpoints at which something that waited there happened. */
  readonly struck: readonly StepName[];
}
