// What is asked of VMs, as the wire has it.
import { invalidField } from "./errors.ts";
import {
  Vm,
  VmSpec,
  type CreateVmRequest,
  type DeepPartial,
  type Egress,
  type ExtendVmRequest,
  type RenameVmRequest,
  type StartVmRequest,
  type UndeleteVmRequest,
  type UpdateVmRequest,
} from "./gen/pitwall/v1/vm.ts";

/** What every change takes. */
export interface ChangeOptions {
  /** A UUID that makes repeats harmless for 24 h; made up when absent. */
  requestId?: string;
  /** The change is refused (ABORTED) unless this is the VM's latest etag. */
  etag?: string;
  /** `plan.token` of a plan: exactly that is done, or nothing (ABORTED, PLAN_STALE). */
  planToken?: string;
}

export interface CreateVmOptions extends Omit<ChangeOptions, "etag"> {
  /** Chosen by the server when absent. */
  name?: string;
  /** Name or id; default: the personal project. */
  project?: string;
  /** Only `image` is needed. */
  spec: Partial<VmSpec> & Pick<VmSpec, "image">;
  /** Refuses an image of which anything would be ignored; see `Pitwall.checkImage`. Default false. */
  strict?: boolean;
  /** How long it lives before it is deleted; default: until somebody deletes it. */
  ttlMs?: number;
  /** Default false. */
  deleteProtection?: boolean;
}

/** What is to become of a VM; what is absent stays. Sizes, arguments and environment are taken up at its next start. */
export interface VmUpdate {
  /** Each of these is set; with `null` it is removed. Others stay. */
  labels?: Readonly<Record<string, string | null>>;
  cpuMillis?: number;
  memBytes?: bigint;
  args?: readonly string[];
  /** Replaces all. */
  env?: Readonly<Record<string, string>>;
  authorizedKeys?: readonly string[];
  restartPolicy?: VmSpec["restartPolicy"];
  nodeLossPolicy?: VmSpec["nodeLossPolicy"];
  /** Where it may send to, at once; replaces all. `null`: wherever its node lets it. */
  egress?: Egress | null;
  /** Bits a second that it may be sent, and may send, at once; 0: no limit. */
  bandwidthInBps?: bigint;
  bandwidthOutBps?: bigint;
  deleteProtection?: boolean;
  /** When it is deleted by itself; `null`: never. */
  expireTime?: Date | null;
  /** How its ports are reached by HTTP; of these, too, what is absent stays. */
  ingress?: {
    /** Its name below the gateway's domain, unique in the installation; `null`: none but its id. */
    readonly host?: string | null;
    /** Of addresses that name no port. */
    readonly port?: number;
    /** Open to everybody; replaces all. */
    readonly publicPorts?: readonly number[];
  };
}

export interface ListVmsOptions {
  /** Name or id; `-`: all that the caller has a role in; default: the personal project. */
  project?: string;
  /** Such as `phase = RUNNING AND labels.env = prod`; docs/api.md. */
  filter?: string;
  /** `name` (the default), `create_time`, `update_time` or `phase`, each also with ` desc`. */
  orderBy?: string;
  /** Also what was deleted and can be brought back. Default false. */
  showDeleted?: boolean;
}

type Mode = { readonly validateOnly?: boolean };

export function createRequest(
  { spec, ttlMs, requestId, ...rest }: CreateVmOptions,
  { validateOnly = false }: Mode,
): DeepPartial<CreateVmRequest> {
  refuseLostNames("CreateVm", "spec", spec);
  return { ...rest, ...idOf(requestId, validateOnly), validateOnly, spec: VmSpec.fromPartial(spec), ...ttlOf(ttlMs) };
}

export function changeRequest(
  vm: string,
  { requestId, ...rest }: ChangeOptions,
  { validateOnly = false }: Mode,
): DeepPartial<StartVmRequest> {
  return { vm, ...rest, ...idOf(requestId, validateOnly), validateOnly };
}

export function renameRequest(vm: string, name: string, options: ChangeOptions, mode: Mode): DeepPartial<RenameVmRequest> {
  return { ...changeRequest(vm, options, mode), name };
}

export function extendRequest(vm: string, ttlMs: number | null, options: ChangeOptions, mode: Mode): DeepPartial<ExtendVmRequest> {
  return { ...changeRequest(vm, options, mode), ...ttlOf(ttlMs ?? undefined) };
}

export function undeleteRequest(
  vm: string,
  { name = "", ...options }: ChangeOptions & { name?: string },
  mode: Mode,
): DeepPartial<UndeleteVmRequest> {
  return { ...changeRequest(vm, options, mode), name };
}

const specPaths = {
  cpuMillis: "spec.cpu_millis",
  memBytes: "spec.mem_bytes",
  args: "spec.args",
  env: "spec.env",
  authorizedKeys: "spec.authorized_keys",
  restartPolicy: "spec.restart_policy",
  nodeLossPolicy: "spec.node_loss_policy",
  egress: "spec.egress",
  bandwidthInBps: "spec.bandwidth_in_bps",
  bandwidthOutBps: "spec.bandwidth_out_bps",
} as const;

export function updateRequest(vm: string, update: VmUpdate, options: ChangeOptions, mode: Mode): DeepPartial<UpdateVmRequest> {
  refuseLostNames("UpdateVm", "value.spec", update);
  const { labels = {}, deleteProtection, expireTime, ingress = {}, ...spec } = update;
  const updateMask = [
    ...Object.keys(labels).map((key) => `spec.labels.${key}`),
    ...Object.entries(specPaths).flatMap(([key, path]) => (spec[key as keyof typeof specPaths] === undefined ? [] : [path])), // the keys are the table's own
    ...(deleteProtection === undefined ? [] : ["delete_protection"]),
    ...(expireTime === undefined ? [] : ["expire_time"]),
    ...(ingress.host === undefined ? [] : ["ingress.host"]),
    ...(ingress.port === undefined ? [] : ["ingress.port"]),
    ...(ingress.publicPorts === undefined ? [] : ["ingress.public_ports"]),
  ];
  const set = Object.entries(labels).filter((pair): pair is [string, string] => pair[1] !== null);
  const value = Vm.fromPartial({
    // Copies of its own fields.
    spec: {
      ...spec,
      ...(spec.args && { args: [...spec.args] }),
      egress: spec.egress ?? undefined,
      labels: Object.fromEntries(set),
    } as Partial<VmSpec>,
    deleteProtection: deleteProtection ?? false,
    ...(expireTime && { expireTime }),
    ingress: { host: ingress.host ?? "", port: ingress.port ?? 0, publicPorts: [...(ingress.publicPorts ?? [])] },
  });
  return { ...changeRequest(vm, options, mode), value, updateMask };
}

/** As the server would, had the name not been lost on the way to it: an object of the wire's has no property `__proto__`. */
function refuseLostNames(method: string, path: string, given: { readonly env?: object; readonly labels?: object }): void {
  for (const map of ["env", "labels"] as const)
    if (Object.hasOwn(given[map] ?? {}, "__proto__"))
      throw invalidField(`pitwall.v1.VmService/${method}`, `${path}.${map}`, 'may not hold "__proto__" as a name');
}

/** A plan is not remembered: it changes nothing. */
function idOf(requestId: string | undefined, validateOnly: boolean): { requestId: string } {
  return { requestId: validateOnly ? "" : (requestId ?? crypto.randomUUID()) };
}

export function ttlOf(ttlMs: number | undefined): { ttl?: { seconds: bigint; nanos: number } } {
  if (ttlMs === undefined) return {};
  const seconds = Math.floor(ttlMs / 1000);
  return { ttl: { seconds: BigInt(seconds), nanos: Math.round((ttlMs - seconds * 1000) * 1e6) } };
}
