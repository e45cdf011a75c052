// VMs as their owners see them and change them.
import {
  Desired,
  Phase,
  VmServiceDefinition,
  type CreateVmRequest,
  type CreateVmResponse,
  type Plan,
  type Vm,
} from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError } from "@pitwall/runtime";
import type { Change } from "../mutation/mutations.ts";
import { hasRoom, noRoom } from "../placement/place.ts";
import type { Principal } from "../projects/principal.ts";
import { observeQuota } from "../quota/quota.ts";
import { reachableProjects, reachProject, reachVm, vmNotFound } from "../projects/reach.ts";
import { NodeEntity, ProjectEntity, VmEntity, type VmRow } from "../store/entities.ts";
import type { EntityManager } from "../store/store.ts";
import { lockVm } from "../store/vm-rows.ts";
import { createVm, type CreateParts } from "./create.ts";
import type { Feed } from "./feed.ts";
import { checkUnchanged, planOf } from "./plan.ts";
import { readVm } from "./recorder.ts";
import { toVm } from "./wire.ts";

interface Parts extends CreateParts {
  readonly feed: Feed;
}

/** The fields that all changes of one VM have. */
export interface VmChangeRequest {
  readonly vm: string;
  readonly requestId: string;
  readonly etag: string;
  readonly validateOnly: boolean;
  readonly planToken: string;
}

export interface VmChangeResponse {
  readonly vm: Vm | undefined;
  readonly plan: Plan | undefined;
}

const batchSize = 1_000;
const { startVm, stopVm, deleteVm } = VmServiceDefinition.methods;

export class Vms {
  readonly #parts: Parts;
  readonly feed: Feed;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.feed = parts.feed;
  }

  create(caller: Principal, request: CreateVmRequest, signal: AbortSignal): Promise<CreateVmResponse> {
    return createVm(this.#parts, caller, request, signal);
  }

  /** Throws `not-found`, also for VMs that are not the caller's to see. */
  async get(caller: Principal, reference: string): Promise<Vm> {
    const em = this.#parts.store.read();
    return readVm(em, await reachVm(em, caller, reference, "viewer"));
  }

  /** Of a project, by name; `after` is the last name of the page before. */
  async list(caller: Principal, reference: string, limit: number, after: string): Promise<Vm[]> {
    const em = this.#parts.store.read();
    const { project } = await reachProject(em, caller, reference, "viewer");
    const where = { projectId: project.id, deleteTime: null, name: { $gt: after } };
    const rows = await em.find(VmEntity, where, { orderBy: { name: "asc" }, limit });
    const names = await nodeNames(em);
    return rows.map((row) => toVm(row, { node: names.get(row.nodeId) ?? "", project: project.name }));
  }

  /** Ids of the projects that a reference stands for: one, or with `-` all that the caller has a role in. */
  async projectIds(caller: Principal, reference: string): Promise<ReadonlySet<string>> {
    const em = this.#parts.store.read();
    if (reference === "-") return new Set(await reachableProjects(em, caller));
    return new Set([(await reachProject(em, caller, reference, "viewer")).project.id]);
  }

  /** All VMs of these projects. */
  async *all(projectIds: ReadonlySet<string>): AsyncGenerator<Vm> {
    const em = this.#parts.store.read();
    const [nodes, projects] = [await em.findAll(NodeEntity), await em.find(ProjectEntity, { id: { $in: [...projectIds] } })];
    const names = new Map([...nodes, ...projects].map(({ id, name }) => [id, name]));
    const nameOf = (id: string): string => names.get(id) ?? "";
    for (let after = ""; ;) {
      const where = { projectId: { $in: [...projectIds] }, ...(after !== "" && { id: { $gt: after } }) };
      const rows = await this.#parts.store.read().find(VmEntity, where, { orderBy: { id: "asc" }, limit: batchSize });
      for (const row of rows) yield toVm(row, { node: nameOf(row.nodeId), project: nameOf(row.projectId) });
      const last = rows.at(-1);
      if (!last || rows.length < batchSize) return;
      after = last.id;
    }
  }

  start(caller: Principal, request: VmChangeRequest): Promise<VmChangeResponse> {
    const work = this.#setDesired(caller, request, Desired.DESIRED_RUNNING);
    return this.#parts.mutations.run({ service: VmServiceDefinition, method: startVm, caller, request, work });
  }

  stop(caller: Principal, request: VmChangeRequest): Promise<VmChangeResponse> {
    const work = this.#setDesired(caller, request, Desired.DESIRED_STOPPED);
    return this.#parts.mutations.run({ service: VmServiceDefinition, method: stopVm, caller, request, work });
  }

  delete(caller: Principal, request: VmChangeRequest): Promise<VmChangeResponse> {
    const work = this.#setDesired(caller, request, Desired.DESIRED_DELETED);
    return this.#parts.mutations.run({ service: VmServiceDefinition, method: deleteVm, caller, request, work });
  }

  #setDesired(caller: Principal, request: VmChangeRequest, desired: Vm["desired"]) {
    return async (change: Change): Promise<VmChangeResponse> => {
      const { em } = change;
      const { row, role, project } = await this.#lock(change, caller, request);
      const etag = String(row.revision);
      const quota = await observeQuota(change, row.projectId);
      const losses = desired === Desired.DESIRED_DELETED ? [`the VM ${row.name} and its disk of ${row.diskBytes / 1_048_576n} MiB`] : [];
      if (row.desired === Desired.DESIRED_DELETED && desired !== Desired.DESIRED_DELETED)
        throw new PitwallError("state", `the VM ${row.name} is being deleted`, { reason: "VM_DELETING" });
      const failed = row.phase === Phase.PHASE_FAILED || (row.phase === Phase.PHASE_STOPPED && desired === Desired.DESIRED_RUNNING);
      const isAsked = row.desired === desired && (!failed || desired === Desired.DESIRED_DELETED);
      if (!isAsked) {
        if (desired === Desired.DESIRED_RUNNING) await this.#readmit(em, row);
        row.desired = desired;
        row.generation += 1n;
      }
      const vm = isAsked ? await readVm(em, row) : await this.#parts.recorder.changed(change, row, { tellNode: true });
      await change.audit({
        object: `vm/${row.id}`,
        projectId: row.projectId,
        generation: row.generation,
        detail: { name: row.name, unchanged: isAsked },
      });
      return { vm, plan: planOf(change, { etag, role, project, losses, quota: await quota() }) };
    };
  }

  /** The VM, locked: it comes before everything else that a change does. */
  async #lock(change: Change, caller: Principal, { vm, etag }: VmChangeRequest) {
    const reached = await reachVm(change.em, caller, vm, "member");
    const row = await lockVm(change.em, reached.id);
    if (!row) throw vmNotFound(vm);
    checkUnchanged(change, etag, row);
    const { project, role } = await reachProject(change.em, caller, row.projectId, "member");
    return { row, role, project: project.name };
  }

  /** A stopped VM gave its CPU and memory back; its disk, and so the VM, stays where it is. */
  async #readmit(em: EntityManager, row: VmRow): Promise<void> {
    const node = (await this.#parts.nodes.candidates(em)).find(({ id }) => id === row.nodeId);
    const idle = row.desired === Desired.DESIRED_STOPPED && (row.phase === Phase.PHASE_STOPPED || row.phase === Phase.PHASE_FAILED);
    const wanted = { cpuMillis: idle ? BigInt(row.cpuMillis) : 0n, memBytes: idle ? row.memBytes : 0n, diskBytes: 0n };
    if (node && !hasRoom(node, wanted)) throw noRoom([node], wanted);
  }
}

async function nodeNames(em: EntityManager): Promise<ReadonlyMap<string, string>> {
  const rows = await em.findAll(NodeEntity);
  return new Map(rows.map(({ id, name }) => [id, name]));
}
