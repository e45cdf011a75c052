// What becomes of the VMs of a node that is drained, as reconcile/drain.ts brings it about: pure, but for what placement says.
import { DrainAction, type DrainStep } from "@pitwall/proto/pitwall/v1/node.ts";
import { Desired } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError } from "@pitwall/runtime";
import type { VmRow } from "../store/entities.ts";
import { mayMove } from "../vm/move.ts";
import type { NodeName } from "./nodes.ts";

/** What is asked for of VMs that have a VMM, and so of those that leave a node that is drained. */
export const up: readonly Desired[] = [Desired.DESIRED_RUNNING, Desired.DESIRED_PAUSED];

/**
 * `move` where there is room for it: until then it stays. A paused VM moves nowhere, as when its node is lost: nothing of it would be there, and
 * it would run, which nobody asked for. So it does not run when a drain is called off, either.
 */
export function drainOf(row: Pick<VmRow, "desired" | "spec">): "none" | "stop" | "move" {
  if (!up.some((desired) => desired === row.desired)) return "none";
  return row.desired !== Desired.DESIRED_PAUSED && mayMove(row) ? "move" : "stop";
}

/** Of a node whose certificate is taken back: one step per VM, in the order given. Where one goes is decided when its time has come. */
export function revocationPlan(rows: readonly VmRow[]): DrainStep[] {
  return rows.map((row) => {
    const step = { vmId: row.id, vmName: row.name, toNodeName: "" };
    switch (drainOf(row)) {
      case "none":
        return { ...step, action: DrainAction.DRAIN_ACTION_NONE, message: "it does not run; its disk stays there" };
      case "stop": {
        const message = "it may run there, and is reached by nobody; once the host is off, fence the node, then remove the VM";
        return { ...step, action: DrainAction.DRAIN_ACTION_STAY, message };
      }
      case "move": {
        const message =
          "it begins anew elsewhere, with an empty disk, when the node's lease and its fence's time are over; what runs there is reached by nobody";
        return { ...step, action: DrainAction.DRAIN_ACTION_MOVE, message };
      }
    }
  });
}

/** One step per VM, in the order given, which is the one in which they go. `placeNext` throws what placement does where there is no node. */
export function drainPlan(rows: readonly VmRow[], placeNext: (row: VmRow) => NodeName): DrainStep[] {
  return rows.map((row) => {
    const step = { vmId: row.id, vmName: row.name, toNodeName: "" };
    switch (drainOf(row)) {
      case "none":
        return { ...step, action: DrainAction.DRAIN_ACTION_NONE, message: "it does not run; its disk stays here" };
      case "stop": {
        const message = "its disk is here: it is stopped, and starts here again when it is asked to";
        return { ...step, action: DrainAction.DRAIN_ACTION_STOP, message };
      }
      case "move":
        return { ...step, ...moved(() => placeNext(row)) };
    }
  });
}

function moved(placeNext: () => NodeName): Pick<DrainStep, "action" | "toNodeName" | "message"> {
  try {
    const message = "it begins with an empty disk; its disk here is lost";
    return { action: DrainAction.DRAIN_ACTION_MOVE, toNodeName: placeNext().name, message };
  } catch (error) {
    if (!(error instanceof PitwallError)) throw error;
    return { action: DrainAction.DRAIN_ACTION_STAY, toNodeName: "", message: `it stays until a node may have it: ${error.message}` };
  }
}
