// A VM in the words of placement: what it takes of a node, what it keeps away from, what it asks for.
import { Desired, Phase, PlacementStrategy, type Placement, type VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { heedingTerm, pacingTerm } from "../placement/heeding.ts";
import type { Group, PlacedVm, Resources, Wanted } from "../placement/wanted.ts";
import { hasBandwidth } from "./bandwidth.ts";
import { termsOf } from "./placement-spec.ts";

/** What of a VM placement looks at. */
export interface PlacementFacts {
  readonly projectId: string;
  readonly imageDigest: string;
  readonly spec: VmSpec;
  readonly resources: Resources;
}

/** A stopped VM takes its disk only, and so does a suspended one; the database counts the same (`vm_takes`). */
export function resourcesOf(size: {
  readonly cpuMillis: number;
  readonly memBytes: bigint;
  readonly diskBytes: bigint;
  readonly desired: number;
  readonly phase: number;
}): Resources {
  const { cpuMillis, memBytes, diskBytes, desired, phase } = size;
  const isIdle =
    (desired === Desired.DESIRED_STOPPED && (phase === Phase.PHASE_STOPPED || phase === Phase.PHASE_FAILED)) ||
    (desired === Desired.DESIRED_SUSPENDED && phase === Phase.PHASE_SUSPENDED);
  return { cpuMillis: isIdle ? 0 : cpuMillis, memBytes: isIdle ? 0 : Number(memBytes), diskBytes: Number(diskBytes) };
}

export function placedVm(id: string, nodeId: string, { projectId, spec, resources }: Omit<PlacementFacts, "imageDigest">): PlacedVm {
  return { id, nodeId, project: projectId, labels: spec.labels, resources, antiAffinity: antiAffinityOf(spec) };
}

export function wantedOf({ projectId, imageDigest, spec, resources }: PlacementFacts): Wanted {
  const { placement, labels } = spec;
  const { required, preferred } = placement ? termsOf(placement) : { required: [], preferred: [] };
  return {
    project: projectId,
    labels,
    resources,
    antiAffinity: antiAffinityOf(spec),
    required: [...required, ...(spec.egress ? [heedingTerm] : []), ...(hasBandwidth(spec) ? [pacingTerm] : [])],
    preferred: preferred.map((term) => ({ term, weight: 1 })),
    spread:
      placement && placement.failureDomainLabel !== "" ? [{ ...labelGroup(placement, labels), domain: placement.failureDomainLabel }] : [],
    policy: placement?.strategy === PlacementStrategy.PLACEMENT_STRATEGY_BIN_PACK ? "bin-pack" : "spread",
    image: imageDigest,
  };
}

/** A VM without the label keeps away from nobody. */
export function antiAffinityOf({ placement, labels }: VmSpec): Group[] {
  const group = placement && labelGroup(placement, labels);
  return group?.label ? [{ label: group.label, domain: placement?.failureDomainLabel ?? "" }] : [];
}

function labelGroup({ antiAffinityLabel: key }: Placement, labels: VmSpec["labels"]): Pick<Group, "label"> {
  const value = key !== "" && Object.hasOwn(labels, key) ? labels[key] : undefined;
  return value === undefined ? {} : { label: { key, value } };
}
