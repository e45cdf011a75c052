// What becomes of the VMs of a node that is drained: pure.
import { DrainAction, type DrainStep } from "@pitwall/proto/pitwall/v1/node.ts";
import { hasRoom, type Amounts, type Candidate } from "../placement/place.ts";

/** A VM as draining sees it. */
export interface DrainedVm extends Amounts {
  readonly id: string;
  readonly name: string;
  /** Somebody wants it to run. */
  readonly runs: boolean;
  /** It may begin anew on another node. */
  readonly mayMove: boolean;
}

export interface Target extends Candidate {
  readonly name: string;
}

/** One step per VM, in the order given. `targets` are the other nodes; what a step takes of one is not there for the next. */
export function drainPlan(vms: readonly DrainedVm[], targets: readonly Target[]): DrainStep[] {
  const left = targets.filter(({ ready }) => ready).map((target) => ({ ...target }));
  return vms.map((vm) => {
    const step = { vmId: vm.id, vmName: vm.name, toNodeName: "" };
    if (!vm.runs) return { ...step, action: DrainAction.DRAIN_ACTION_NONE, message: "it does not run; its disk stays here" };
    if (!vm.mayMove) {
      const message = "its disk is here: it is stopped, and starts here again when it is asked to";
      return { ...step, action: DrainAction.DRAIN_ACTION_STOP, message };
    }
    const [target] = left
      .filter((candidate) => hasRoom(candidate, vm))
      .toSorted((a, b) => (memoryLeft(a) === memoryLeft(b) ? (a.id < b.id ? -1 : 1) : memoryLeft(a) > memoryLeft(b) ? -1 : 1));
    if (!target) return { ...step, action: DrainAction.DRAIN_ACTION_STAY, message: "no other node has room for it" };
    target.allocated = plus(target.allocated, vm);
    return {
      ...step,
      action: DrainAction.DRAIN_ACTION_MOVE,
      toNodeName: target.name,
      message: "it begins with an empty disk; its disk here is lost",
    };
  });
}

const memoryLeft = ({ capacity, allocated }: Candidate): bigint => capacity.memBytes - allocated.memBytes;

function plus(one: Amounts, other: Amounts): Amounts {
  return {
    cpuMillis: one.cpuMillis + other.cpuMillis,
    memBytes: one.memBytes + other.memBytes,
    diskBytes: one.diskBytes + other.diskBytes,
  };
}
