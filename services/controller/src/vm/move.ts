// A VM begins anew on another node: the next epoch, so that whatever is left of it on the old one is nobody's any more.
import { Desired, Health, Phase, VmTimings } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { VmRow } from "../store/entities.ts";

/** Changes the row; the VM was locked. Whoever calls is certain that it no longer runs where it was. */
export function beginAnew(row: VmRow, nodeId: string): void {
  row.nodeId = nodeId;
  row.epoch += 1n;
  [row.address, row.address6] = [null, null]; // it is given others
  row.generation += 1n;
  row.observedGeneration = 0n;
  row.restartGeneration = row.generation;
  row.desired = Desired.DESIRED_RUNNING;
  row.moving = false;
  row.phase = Phase.PHASE_PLACED;
  row.reason = "";
  row.message = "";
  row.sshHostKey = "";
  row.sshHostKeyChanged = false;
  row.serviceExit = null;
  row.restartCount = 0;
  row.health = Health.HEALTH_UNSPECIFIED;
  row.timings = VmTimings.toJSON(VmTimings.fromPartial({}));
}
