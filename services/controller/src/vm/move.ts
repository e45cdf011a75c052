// A VM begins anew on another node: the next epoch, so that whatever is left of it on the old one is nobody's any more.
import { Desired, Health, NodeLossPolicy, Phase, VmSpec, VmTimings } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { VmRow } from "../store/entities.ts";
import type { PlaceRequest } from "./placer.ts";
import { resourcesOf } from "./wanted.ts";

/** Changes the row; the VM was locked, and this change has its own generation. Whoever calls is certain that it no longer runs where it was. */
export function beginAnew(row: VmRow, nodeId: string): void {
  row.nodeId = nodeId;
  row.epoch += 1n;
  [row.address, row.address6] = [null, null]; // it is given others
  row.observedGeneration = 0n;
  row.restartGeneration = row.generation;
  row.policyGeneration = 0n;
  row.desired = Desired.DESIRED_RUNNING;
  row.moving = false;
  row.phase = Phase.PHASE_PLACED;
  row.reason = "";
  row.message = "";
  row.sshHostKey = "";
  row.sshHostKeyChanged = false;
  row.serviceExit = null;
  row.asked = null;
  row.restartCount = 0;
  row.health = Health.HEALTH_UNSPECIFIED;
  row.timings = VmTimings.toJSON(VmTimings.fromPartial({}));
}

/** What is asked of placement for a VM that begins anew. */
export function anewRequest({ id, projectId, imageDigest, spec, cpuMillis, memBytes, diskBytes }: VmRow): PlaceRequest {
  const resources = resourcesOf({ cpuMillis, memBytes, diskBytes, desired: Desired.DESIRED_RUNNING, phase: Phase.PHASE_PLACED });
  return { vmId: id, projectId, imageDigest, spec: VmSpec.fromJSON(spec), resources };
}

/** Whether its owner allows that it begins anew with an empty disk. */
export function mayMove({ spec }: Pick<VmRow, "spec">): boolean {
  return VmSpec.fromJSON(spec).nodeLossPolicy === NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE;
}

/**
 * Whether a node that is lost has ended the VM, as it does with those of which it knows that they may be rescheduled: one that has not heard
 * of that, runs it on.
 */
export function wasEnded({ policyGeneration, observedGeneration }: VmRow, isFenced: boolean): boolean {
  return isFenced || policyGeneration <= observedGeneration;
}
