// A VM's row as the API and the link speak of it.
import type { Assignment } from "@pitwall/proto/pitwall/v1/link.ts";
import { Exit, Phase, VmSpec, VmTimings, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { VmRow } from "../store/entities.ts";

export function toVm(row: VmRow, nodeName: string): Vm {
  return {
    id: row.id,
    name: row.name,
    owner: row.owner,
    spec: VmSpec.fromJSON(row.spec),
    imageDigest: row.imageDigest,
    desired: row.desired as Vm["desired"], // written from this enum alone
    generation: row.generation,
    observedGeneration: row.observedGeneration,
    phase: row.phase as Vm["phase"], // the same
    reason: row.reason,
    message: row.message,
    nodeId: row.nodeId,
    nodeName,
    epoch: row.epoch,
    sshHostKey: row.sshHostKey,
    serviceExit: row.serviceExit === null || row.serviceExit === undefined ? undefined : Exit.fromJSON(row.serviceExit),
    restartCount: row.restartCount,
    health: row.health as Vm["health"], // the same
    timings: VmTimings.fromJSON(row.timings),
    createTime: row.createTime,
    updateTime: row.updateTime,
    etag: String(row.revision),
  };
}

/** The last word on a VM whose row is gone. */
export function toGone(vm: Vm): Vm {
  return { ...vm, phase: Phase.PHASE_GONE, reason: "", message: "" };
}

/** `ownerKeys` are the public keys of the owner's profile. */
export function toAssignment(row: VmRow, ownerKeys: readonly string[]): Assignment {
  const spec = VmSpec.fromJSON(row.spec);
  return {
    vmId: row.id,
    vmName: row.name,
    generation: row.generation,
    epoch: row.epoch,
    desired: row.desired as Assignment["desired"], // written from this enum alone
    spec,
    imageDigest: row.imageDigest,
    authorizedKeys: [...new Set([...ownerKeys, ...spec.authorizedKeys])],
  };
}
