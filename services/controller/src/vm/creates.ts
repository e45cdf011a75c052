// VMs that are asked for at the same time are made in one change: what a commit costs, and each question to the database, is shared.
//
// Each has its own answer, entry and event, as if it were made alone, and none suffers for another: those that need more than a node and a
// quota, or of which the database might not like something, are left to be made alone.
import { Vm, CreateVmResponse } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { Failpoints } from "@pitwall/runtime";
import { answerOf, answerRecord, enterAll } from "../mutation/answers.ts";
import { auditRecord, type AuditRecord } from "../mutation/audit.ts";
import type { Leavings } from "../mutation/mutations.ts";
import { gather } from "../nodes/gather.ts";
import type { VmRow } from "../store/entities.ts";
import { isRefused, type EntityManager, type Store } from "../store/store.ts";
import { insertVms, knownOf, type NewVm } from "./new-vms.ts";
import type { Placer, PlaceRequest } from "./placer.ts";
import type { Recorder } from "./recorder.ts";
import { toVm } from "./wire.ts";

/** In one change. */
const vmsAtOnce = 64;

/** A VM that somebody asks for, and may have as far as they are concerned. */
export interface Asked {
  readonly request: PlaceRequest;
  readonly leavings: Leavings;
  rowOn(nodeId: string): VmRow;
  entryOf(row: VmRow): AuditRecord;
}

/** Undefined: it is to be made alone. */
type Made = CreateVmResponse | undefined;

export interface CreatesParts {
  readonly store: Store;
  readonly placer: Placer;
  readonly recorder: Recorder;
  readonly failpoints: Failpoints;
}

export class Creates {
  readonly #parts: CreatesParts;
  readonly #make = gather((all: readonly Asked[]) => this.#makeAll(all), vmsAtOnce);

  constructor(parts: CreatesParts) {
    this.#parts = parts;
  }

  /** Makes the VM together with others. Undefined: nothing was done, and it is to be made alone. */
  async make(asked: Asked): Promise<Made> {
    const made = await this.#make(asked);
    if (made && "error" in made) throw made.error;
    return made;
  }

  /** Throws only when nothing was done, and each may be tried alone. */
  async #makeAll(all: readonly Asked[]): Promise<(Made | { readonly error: unknown })[]> {
    const { store, placer, recorder } = this.#parts;
    const placed = all.map((asked) => ({ ...asked, nodeId: placer.reserveBest(asked.request) }));
    const ready = placed.flatMap(({ nodeId, ...asked }) => (nodeId === undefined ? [] : [{ ...asked, row: asked.rowOn(nodeId) }]));
    try {
      const made = await store.change(async (em, after) => {
        const answers = await this.#write(em, ready);
        recorder.committed(after);
        return answers;
      });
      return all.map(({ request }) => made.get(request.vmId));
    } catch (error) {
      if (isRefused(error)) {
        if (all.length > 1) throw error;
        return [undefined];
      }
      return all.map(() => ({ error }));
    }
  }

  /** The answers, by VM; without those that are to be made alone. */
  async #write(em: EntityManager, ready: readonly (Asked & { readonly row: VmRow })[]): Promise<ReadonlyMap<string, CreateVmResponse>> {
    const { failpoints } = this.#parts;
    await enterAll(
      em,
      ready.flatMap(({ leavings }) => leavings.request ?? []),
    );
    const known = await knownOf(
      em,
      ready.map(({ row, leavings: { request } }) => ({ row, subject: request?.subject ?? "", requestId: request?.requestId ?? "" })),
    );
    const answers = new Map<string, CreateVmResponse>();
    const made: NewVm[] = [];
    const ids = new Set<string>();
    for (const [at, { row, leavings, entryOf }] of ready.entries()) {
      const found = known[at];
      const { request, origin } = leavings;
      if (found?.earlier && request && isSame(found.earlier, request)) {
        answers.set(row.id, CreateVmResponse.decode(answerOf(found.earlier, request)));
        continue;
      }
      const id = request && `${request.subject}\n${request.requestId}`;
      if (!found || found.earlier || found.isRefused || found.node === undefined || found.project === undefined) continue;
      if (id !== undefined && ids.has(id)) continue; // the first of the two is not answered yet
      if (id !== undefined) ids.add(id);
      await failpoints.at("create.sched.locked", row.id);
      Object.assign(row, { revision: found.revision, createTime: found.time, updateTime: found.time });
      const vm = toVm(row, { node: found.node, project: found.project });
      const answer: CreateVmResponse = { vm, plan: undefined };
      made.push({
        row,
        body: Vm.encode(vm).finish(),
        entry: auditRecord(origin, entryOf(row)),
        answer: request && answerRecord(request, CreateVmResponse.encode(answer).finish()),
      });
      answers.set(row.id, answer);
    }
    if (made.length > 0) await insertVms(em, made);
    for (const { row } of made) await failpoints.at("create.sched.placed", row.id);
    return answers;
  }
}

function isSame(
  { method, digest, answer }: { method: string; digest: string; answer: Buffer | null },
  request: { action: string; digest: string },
): boolean {
  return answer !== null && method === request.action && digest === request.digest;
}
