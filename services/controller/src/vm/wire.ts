// A VM's row as the API and the link speak of it.
import type { Assignment } from "@pitwall/proto/pitwall/v1/link.ts";
import { Phase, VmSpec, VmTimings, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { VmRow } from "../store/entities.ts";
import { askedIn, exitIn } from "./asked.ts";
import { toIngress } from "./ingress.ts";
import type { VmNames } from "../store/vm-rows.ts";

export function toVm(row: VmRow, names: VmNames): Vm {
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
    nodeName: names.node,
    epoch: row.epoch,
    sshHostKey: row.sshHostKey,
    serviceExit: exitIn(row),
    asked: askedIn(row),
    restartCount: row.restartCount,
    health: row.health as Vm["health"], // the same
    timings: VmTimings.fromJSON(row.timings),
    createTime: row.createTime,
    updateTime: row.updateTime,
    etag: String(row.revision),
    project: names.project,
    deleteProtection: row.deleteProtection,
    expireTime: row.expireTime ?? undefined,
    deleteTime: row.deleteTime ?? undefined,
    purgeTime: row.purgeTime ?? undefined,
    ingress: toIngress(row),
    addresses: [row.address, row.address6].filter((address) => address !== null && address !== undefined),
  };
}

/** The last word on a VM whose row is gone. */
export function toGone(vm: Vm): Vm {
  return { ...vm, phase: Phase.PHASE_GONE, reason: "", message: "" };
}

/** `authorizedKeys` are the SSH keys that the VM has of its own. */
export function toAssignment(row: VmRow, authorizedKeys: readonly string[]): Assignment {
  const spec = VmSpec.fromJSON(row.spec);
  return {
    vmId: row.id,
    vmName: row.name,
    generation: row.generation,
    epoch: row.epoch,
    desired: row.desired as Assignment["desired"], // written from this enum alone
    spec,
    imageDigest: row.imageDigest,
    authorizedKeys: [...authorizedKeys],
    restartGeneration: row.restartGeneration,
    imageCredential: undefined,
    address: row.address && row.address6 ? { ipv4: row.address, ipv6: row.address6 } : undefined,
  };
}
