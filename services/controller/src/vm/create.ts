// How a VM comes to be: its image resolved, its node chosen, its row written.
import { randomUUID } from "node:crypto";
import { ignoredFields, type ImageSources, type ResolvedImage } from "@pitwall/oci";
import {
  Desired,
  Health,
  Phase,
  VmServiceDefinition,
  VmSpec,
  VmTimings,
  type CreateVmRequest,
  type CreateVmResponse,
} from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError, systemClock, toDuration, type Failpoints } from "@pitwall/runtime";
import type { Credentials } from "../credentials/credentials.ts";
import type { AuditRecord } from "../mutation/audit.ts";
import type { Change, Leavings, Mutations } from "../mutation/mutations.ts";
import { planStale } from "../mutation/plan-token.ts";
import type { Nodes } from "../nodes/nodes.ts";
import type { Principal } from "../projects/principal.ts";
import { observeQuota } from "../quota/quota.ts";
import { VmEntity, type VmRow } from "../store/entities.ts";
import { databaseNowMs, isKeyTaken, isNodeFull, type Store } from "../store/store.ts";
import type { BeforeCreate, KnownBefore, ReachedId } from "./before-create.ts";
import type { Creates } from "./creates.ts";
import { noIngress } from "./ingress.ts";
import { checkVmName, makeName } from "./names.ts";
import { planOf } from "./plan.ts";
import { StaleFleet, type Placer } from "./placer.ts";
import type { Recorder } from "./recorder.ts";
import { checkSpec } from "./spec.ts";
import { durationMs } from "./ttl.ts";
import { antiAffinityOf, resourcesOf } from "./wanted.ts";

/** How often another node is sought after others were quicker. */
export const maxPlacements = 5;

export interface CreateParts {
  readonly store: Store;
  readonly mutations: Mutations;
  readonly nodes: Nodes;
  readonly placer: Placer;
  readonly images: ImageSources;
  readonly credentials: Credentials;
  readonly recorder: Recorder;
  readonly beforeCreate: (asked: BeforeCreate) => Promise<KnownBefore>;
  readonly creates: Creates;
  readonly failpoints: Failpoints;
}

interface NewVm {
  readonly name: string;
  readonly spec: VmSpec;
  readonly imageDigest: string;
  readonly owner: string;
  /** By the monotonic clock. */
  readonly startedMs: number;
  readonly ttlMs: number | undefined;
  readonly deleteProtection: boolean;
}

const method = VmServiceDefinition.methods.createVm;

/** A repeated request id returns the answer of the first one. */
export async function createVm(
  parts: CreateParts,
  caller: Principal,
  request: CreateVmRequest,
  signal: AbortSignal,
): Promise<CreateVmResponse> {
  const startedMs = systemClock.monotonicMs();
  const call = { service: VmServiceDefinition, method, caller, request };
  const spec = checkSpec(request.spec);
  const ttlMs = durationMs("ttl", request.ttl);
  const isNameDrawn = request.name === "";
  const name = isNameDrawn ? makeName() : checkVmName(request.name);
  const leavings = parts.mutations.leavings(call);
  const { earlier, hasCredentials, ...reached } = await parts.beforeCreate({ caller, reference: request.project, leavings });
  if (earlier) return earlier;
  // Before the image is resolved. A request with an id may be a repeat of one that makes the VM at this moment.
  if (request.requestId === "" && (await parts.store.read().count(VmEntity, { projectId: reached.project.id, name, deleteTime: null })) > 0)
    throw nameTaken(name);
  const credentialsFor = hasCredentials ? await parts.credentials.forProject(reached.project.id) : undefined;
  const image = await parts.images.resolve(spec.image, signal, { credentialsFor });
  if (request.strict) refuseIgnored(image);
  const { deleteProtection } = request;
  const wanted: NewVm = { name, spec, imageDigest: image.digest, owner: caller.subject, startedMs, ttlMs, deleteProtection };
  const vmId = randomUUID();
  await parts.failpoints.at("create.api.validated", vmId);
  const together = await makeTogether(parts, leavings, reached, { ...wanted, vmId });
  if (together) {
    await parts.failpoints.at("create.api.committed", vmId);
    return together;
  }
  for (let tries = 1; ; tries++) {
    try {
      const made = await parts.mutations.run({
        ...call,
        work: (change) => place(parts, change, reached, { ...wanted, vmId, isNameDrawn }),
      });
      await parts.failpoints.at("create.api.committed", vmId);
      return made;
    } catch (error) {
      parts.placer.release(vmId);
      if (isKeyTaken(error)) throw isNameDrawn && request.planToken !== "" ? planStale("its name is another VM's") : nameTaken(name);
      if (!isNodeFull(error) && !(error instanceof StaleFleet)) throw error;
      if (tries >= maxPlacements) throw nodesTooQuick(error);
      await parts.placer.refresh();
    }
  }
}

/** Undefined: it is to be made alone. */
async function makeTogether(
  parts: CreateParts,
  leavings: Leavings | undefined,
  { project }: ReachedId,
  wanted: NewVm & { readonly vmId: string },
): Promise<CreateVmResponse | undefined> {
  const { spec, imageDigest, vmId, ttlMs } = wanted;
  // What is to keep away from others waits for them, and the end of a life is counted on the database's clock.
  if (!leavings || ttlMs !== undefined || antiAffinityOf(spec).length > 0) return undefined;
  const request = { vmId, projectId: project.id, imageDigest, spec, resources: resourcesOf({ ...spec, ...placed }) };
  try {
    const made = await parts.creates.make({
      request,
      leavings,
      rowOn: (nodeId) => ({ ...newRow(wanted, project.id, nodeId, new Date(0)), id: vmId }), // whoever writes it knows its time
      entryOf: (row) => entryOf(row, spec),
    });
    if (made?.vm?.id !== vmId) parts.placer.release(vmId);
    return made;
  } catch (error) {
    parts.placer.release(vmId);
    throw error;
  }
}

const placed = { desired: Desired.DESIRED_RUNNING, phase: Phase.PHASE_PLACED };

function entryOf(row: VmRow, { image }: VmSpec): AuditRecord {
  const { id, projectId, generation, name, imageDigest, nodeId: node } = row;
  return { object: `vm/${id}`, projectId, generation, detail: { name, image, imageDigest, node } };
}

async function place(
  parts: CreateParts,
  change: Change,
  reached: ReachedId,
  { isNameDrawn, ...asked }: NewVm & { vmId: string; isNameDrawn: boolean },
): Promise<CreateVmResponse> {
  const { project, role } = reached;
  const { spec, imageDigest, vmId } = asked;
  const planned = change.plan?.made;
  if (planned && planned.imageDigest !== imageDigest)
    throw planStale(`${spec.image} stands for ${imageDigest} now, not for ${planned.imageDigest}`);
  const wanted = { ...asked, name: planned && isNameDrawn ? planned.name : asked.name };
  const request = { vmId, projectId: project.id, imageDigest, spec, resources: resourcesOf({ ...spec, ...placed }) };
  const node = await parts.placer.place(change, request);
  await parts.failpoints.at("create.sched.locked", vmId);
  if (!change.validateOnly) parts.placer.reserve(request, node.id);
  const quota = await observeQuota(change, project.id);
  const nowMs = await databaseNowMs(change.em);
  const expireTime = wanted.ttlMs === undefined ? null : new Date(nowMs + wanted.ttlMs);
  const row = change.em.create(VmEntity, { ...newRow(wanted, project.id, node.id, new Date(nowMs)), id: vmId, expireTime });
  const vm = await parts.recorder.changed(change, row, { tellNode: true });
  await change.audit(entryOf(row, spec));
  await parts.failpoints.at("create.sched.placed", vmId);
  const made = { name: wanted.name, imageDigest };
  // Its id is drawn when it is made.
  return {
    vm: change.validateOnly ? { ...vm, id: "" } : vm,
    plan: planOf(change, { etag: "", node, made, role, project: project.name, quota: await quota() }),
  };
}

function newRow(
  { name, spec, imageDigest, owner, startedMs, deleteProtection }: NewVm,
  projectId: string,
  nodeId: string,
  now: Date,
): Omit<VmRow, "id"> {
  return {
    name,
    projectId,
    owner,
    spec: VmSpec.toJSON(spec),
    imageDigest,
    desired: Desired.DESIRED_RUNNING,
    generation: 1n,
    observedGeneration: 0n,
    phase: Phase.PHASE_PLACED,
    reason: "",
    message: "",
    nodeId,
    epoch: 1n,
    sshHostKey: "",
    sshHostKeyChanged: false,
    serviceExit: null,
    asked: null,
    restartCount: 0,
    health: Health.HEALTH_UNSPECIFIED,
    timings: VmTimings.toJSON({ ...VmTimings.fromPartial({}), place: toDuration(systemClock.monotonicMs() - startedMs) }),
    createTime: now,
    updateTime: now,
    revision: 0n,
    cpuMillis: spec.cpuMillis,
    memBytes: spec.memBytes,
    diskBytes: spec.diskBytes,
    deleteProtection,
    expireTime: null,
    deleteTime: null,
    purgeTime: null,
    restartGeneration: 1n,
    moving: false,
    policyGeneration: 0n,
    address: null,
    address6: null,
    ...noIngress,
  };
}

/** Throws `state` that names all of which a VM would make nothing. */
function refuseIgnored({ reference, config }: ResolvedImage): void {
  const ignored = ignoredFields(config);
  if (ignored.length === 0) return;
  const list = ignored.map(({ field, why }) => `${field} (${why})`).join("; ");
  const message = `strict: of ${reference} would be ignored: ${list}. Create the VM without strict, or change the image`;
  throw new PitwallError("state", message, { reason: "IMAGE_FIELDS_IGNORED", field: "spec.image" });
}

export function nodesTooQuick(cause: unknown): PitwallError {
  return new PitwallError("exhausted", "the nodes fill up faster than the VM can be placed; try again, or add a node", {
    reason: "NO_CAPACITY",
    cause,
  });
}

export function nameTaken(name: string): PitwallError {
  return new PitwallError("exists", `name: the project has a VM called ${name}; choose another name, or delete that VM`, {
    reason: "NAME_TAKEN",
    field: "name",
  });
}
