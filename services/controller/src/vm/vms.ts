// VMs as their owners see them: found, listed, watched; and their changes, which moves.ts makes.
import { Vm, type CreateVmRequest, type CreateVmResponse, type ListVmsRequest } from "@pitwall/proto/pitwall/v1/vm.ts";
import { invalid, isUuid, PitwallError } from "@pitwall/runtime";
import type { Signer } from "../mutation/signer.ts";
import type { Principal } from "../projects/principal.ts";
import { reachableProjects, reachGone, reachProject, reachVm, vmNotFound } from "../projects/reach.ts";
import { NodeEntity, ProjectEntity, VmEntity } from "../store/entities.ts";
import { beforeCreate } from "./before-create.ts";
import { createVm, type CreateParts } from "./create.ts";
import { Creates } from "./creates.ts";
import type { Feed, Watched } from "./feed.ts";
import { listVms, type Page } from "./listing.ts";
import { Moves } from "./moves.ts";
import { readVm } from "./recorder.ts";
import { toVm } from "./wire.ts";

const batchSize = 1_000;

interface Parts extends Omit<CreateParts, "creates" | "beforeCreate"> {
  readonly feed: Feed;
  readonly signer: Signer;
}

export class Vms {
  readonly #parts: Parts;
  readonly #creating: CreateParts;
  readonly feed: Feed;
  readonly moves: Moves;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#creating = { ...parts, creates: new Creates(parts), beforeCreate: beforeCreate(parts.store) };
    this.feed = parts.feed;
    this.moves = new Moves(parts);
  }

  create(caller: Principal, request: CreateVmRequest, signal: AbortSignal): Promise<CreateVmResponse> {
    return createVm(this.#creating, caller, request, signal);
  }

  /** Throws `not-found`, also for VMs that are not the caller's to see, and `unavailable` when it is not of `minGeneration` yet. */
  async get(caller: Principal, reference: string, minGeneration = 0n): Promise<Vm> {
    const em = this.#parts.store.read();
    const row = await reachVm(em, caller, reference, "viewer");
    // All controllers read the one database: an older state means that its caller knows of a change that is not there.
    if (row.generation < minGeneration)
      throw new PitwallError("unavailable", `min_generation: the VM ${row.name} is of generation ${row.generation}; try again`, {
        reason: "GENERATION_NOT_REACHED",
        field: "min_generation",
      });
    return readVm(em, row);
  }

  list(caller: Principal, request: ListVmsRequest, limit: number): Promise<Page> {
    return listVms(this.#parts, caller, request, limit);
  }

  /**
   * What a watch of one VM is of, by which it goes on: as its resume token says, also when the VM has another name by now or is gone; or as the
   * reference does, an id also of a VM that is gone, while its last word is remembered. Throws `not-found`, and `invalid` for a token of another.
   */
  async watched(caller: Principal, reference: string, resumeToken: string): Promise<Watched & { readonly gone?: Vm }> {
    const em = this.#parts.store.read();
    const of = resumeToken === "" ? undefined : this.feed.read(resumeToken).of;
    if (of) {
      if (reference !== of.reference && reference !== of.id)
        throw invalid("resume_token", `is of a watch of the VM ${JSON.stringify(of.reference.slice(0, 160))}`);
      await reachProject(em, caller, of.projectId, "viewer").catch((error: unknown) => {
        throw isMissing(error) ? vmNotFound(reference) : error;
      });
      return of;
    }
    try {
      const { id, projectId } = await reachVm(em, caller, reference, "viewer");
      return { id, projectId, reference };
    } catch (error) {
      const gone = isMissing(error) && isUuid(reference) ? await reachGone(em, caller, reference) : undefined;
      if (!gone) throw error;
      return { id: reference, projectId: gone.projectId, reference, gone: Vm.decode(gone.body) };
    }
  }

  /** Ids of the projects that a reference stands for: one, or with `-` all that the caller has a role in. */
  async projectIds(caller: Principal, reference: string): Promise<ReadonlySet<string>> {
    const em = this.#parts.store.read();
    if (reference === "-") return new Set(await reachableProjects(em, caller));
    return new Set([(await reachProject(em, caller, reference, "viewer")).project.id]);
  }

  /** All VMs of these projects, but what was deleted and can be brought back. */
  async *all(projectIds: ReadonlySet<string>): AsyncGenerator<Vm> {
    const em = this.#parts.store.read();
    const [nodes, projects] = [await em.findAll(NodeEntity), await em.find(ProjectEntity, { id: { $in: [...projectIds] } })];
    const names = new Map([...nodes, ...projects].map(({ id, name }) => [id, name]));
    const nameOf = (id: string): string => names.get(id) ?? "";
    for (let after = ""; ;) {
      const where = { projectId: { $in: [...projectIds] }, deleteTime: null, ...(after !== "" && { id: { $gt: after } }) };
      const rows = await this.#parts.store.read().find(VmEntity, where, { orderBy: { id: "asc" }, limit: batchSize });
      for (const row of rows) yield toVm(row, { node: nameOf(row.nodeId), project: nameOf(row.projectId) });
      const last = rows.at(-1);
      if (!last || rows.length < batchSize) return;
      after = last.id;
    }
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof PitwallError && error.fault === "not-found";
}
