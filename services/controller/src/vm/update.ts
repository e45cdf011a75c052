// UpdateVm: the fields that its mask names, checked as those of a new VM are.
import { Phase, VmSpec, type UpdateVmRequest, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { invalid } from "@pitwall/runtime";
import type { VmRow } from "../store/entities.ts";
import { checkHost, checkPort, checkPublicPorts, defaultHttpPort } from "./ingress.ts";
import type { State } from "./lifecycle.ts";
import { mayMove } from "./move.ts";
import { checkSpec } from "./spec.ts";
import { checkExpireTime } from "./ttl.ts";

const labelPrefix = "spec.labels.";

type Setter = (spec: VmSpec, value: VmSpec) => VmSpec;
const specSetters: Readonly<Record<string, Setter>> = {
  "spec.labels": (spec, { labels }) => ({ ...spec, labels }),
  "spec.cpu_millis": (spec, { cpuMillis }) => ({ ...spec, cpuMillis }),
  "spec.mem_bytes": (spec, { memBytes }) => ({ ...spec, memBytes }),
  "spec.args": (spec, { args }) => ({ ...spec, args }),
  "spec.env": (spec, { env }) => ({ ...spec, env }),
  "spec.authorized_keys": (spec, { authorizedKeys }) => ({ ...spec, authorizedKeys }),
  "spec.restart_policy": (spec, { restartPolicy }) => ({ ...spec, restartPolicy }),
  "spec.node_loss_policy": (spec, { nodeLossPolicy }) => ({ ...spec, nodeLossPolicy }),
  "spec.egress": (spec, { egress }) => ({ ...spec, egress }),
  "spec.bandwidth_in_bps": (spec, { bandwidthInBps }) => ({ ...spec, bandwidthInBps }),
  "spec.bandwidth_out_bps": (spec, { bandwidthOutBps }) => ({ ...spec, bandwidthOutBps }),
};
const rowSetters: Readonly<Record<string, (row: VmRow, value: Vm, nowMs: number) => void>> = {
  delete_protection: (row, { deleteProtection }) => {
    row.deleteProtection = deleteProtection;
  },
  expire_time: (row, { expireTime }, nowMs) => {
    if (expireTime?.getTime() === row.expireTime?.getTime()) return; // it stays, however near it is
    row.expireTime = checkExpireTime("value.expire_time", expireTime, nowMs);
  },
  "ingress.host": (row, { ingress }) => {
    row.host = checkHost(ingress?.host ?? "");
  },
  "ingress.port": (row, { ingress }) => {
    row.httpPort = checkPort(ingress?.port || defaultHttpPort, "ingress.port");
  },
  "ingress.public_ports": (row, { ingress }) => {
    row.publicPorts = checkPublicPorts(ingress?.publicPorts ?? []);
  },
};
const known = [...Object.keys(specSetters), ...Object.keys(rowSetters)];
/** In which the VM takes nothing of its node's CPU and memory, or what it takes is about to be taken anew. */
const atRest: ReadonlySet<State> = new Set(["stopped"]);

/** Changes the row; `nowMs` is the database's. The fields that were changed. Throws `invalid` naming the field. */
export function applyUpdate(row: VmRow, state: State, { value, updateMask }: UpdateVmRequest, nowMs: number): readonly string[] {
  const fields = fieldsOf(updateMask);
  if (!value) throw invalid("value", "is required");
  const given = value.spec ?? VmSpec.fromPartial({});
  let spec = VmSpec.fromJSON(row.spec);
  for (const field of fields) {
    const set = Object.hasOwn(specSetters, field) ? specSetters[field] : undefined;
    if (set) spec = set(spec, given);
    else if (field.startsWith(labelPrefix))
      spec = { ...spec, labels: withLabel(spec.labels, field.slice(labelPrefix.length), given.labels) };
    else rowSetters[field]?.(row, value, nowMs);
  }
  const checked = checkSpec(spec);
  const couldMove = mayMove(row);
  row.spec = VmSpec.toJSON(checked);
  if (mayMove(row) && !couldMove && mayRun(row)) row.policyGeneration = row.generation;
  // A VM that runs keeps what it has until its next start, and is given what that start takes now.
  const most = <T extends number | bigint>(was: T, wanted: T): T => (atRest.has(state) || wanted > was ? wanted : was);
  row.cpuMillis = most(row.cpuMillis, checked.cpuMillis);
  row.memBytes = most(row.memBytes, checked.memBytes);
  return fields;
}

/** Whether its node may run it, as far as anybody knows: only then must it hear of a policy that has it end the VM. */
function mayRun({ phase, reason, restartGeneration, observedGeneration }: VmRow): boolean {
  const isAtRest = phase === Phase.PHASE_STOPPED || (phase === Phase.PHASE_FAILED && reason !== "LEASE_LOST");
  return !isAtRest || restartGeneration > observedGeneration;
}

function fieldsOf(mask: readonly string[] | undefined): readonly string[] {
  if (!mask || mask.length === 0) throw invalid("update_mask", `names nothing; it may name ${known.join(", ")}, spec.labels.KEY, or *`);
  if (mask.includes("*")) return known;
  for (const field of mask) {
    const isLabel = field.startsWith(labelPrefix) && field.length > labelPrefix.length;
    if (!known.includes(field) && !isLabel)
      throw invalid(
        "update_mask",
        `${JSON.stringify(field.slice(0, 80))} cannot be updated; it may name ${known.join(", ")}, spec.labels.KEY, or *`,
      );
  }
  return [...new Set(mask)];
}

/** The label as it is given, or without it where none is. */
function withLabel(labels: VmSpec["labels"], key: string, given: VmSpec["labels"]): VmSpec["labels"] {
  const { [key]: _, ...others } = labels;
  const value = Object.hasOwn(given, key) ? given[key] : undefined;
  return value === undefined ? others : { ...others, [key]: value };
}
