// VMs whose time has come: their life is over, or the time in which they could be brought back.
//
// Any number of controllers may do this at once: each VM is claimed by whoever locks it first, and looked at anew under the lock. A VM that
// cannot be dealt with is tried again ever later, and keeps nobody else's from theirs.
import { Desired } from "@pitwall/proto/pitwall/v1/vm.ts";
import { systemItself, type Change, type Mutations } from "../mutation/mutations.ts";
import { ProjectEntity, type VmRow } from "../store/entities.ts";
import type { Store } from "../store/store.ts";
import { claimVm } from "../store/vm-rows.ts";
import { noteAsked } from "../vm/asked.ts";
import { withdraw } from "../vm/ingress.ts";
import { follow } from "../vm/lifecycle.ts";
import { markDeleted } from "../vm/moves.ts";
import type { Recorder } from "../vm/recorder.ts";
import { rowState } from "../vm/state.ts";
import { isNotParked, wasParked, type Guarded, type Parking } from "./parking.ts";

const batch = 100;

export interface DueParts {
  readonly store: Store;
  readonly mutations: Mutations;
  readonly recorder: Recorder;
  readonly parking: Parking;
}

const isDue = `desired <> ${Desired.DESIRED_DELETED} and (
  delete_time is null and expire_time <= now() and not delete_protection or delete_time is not null and purge_time <= now())`;

/** One round. */
export async function reconcileDueVms(parts: DueParts): Promise<void> {
  const { store, parking } = parts;
  const due: Guarded[] = await store
    .read()
    .execute(`select id, ${wasParked} from vm where ${isDue} and ${isNotParked} order by id limit ${batch}`);
  for (const vm of due) await parking.guard(vm, () => settle(parts, vm.id));
}

async function settle({ mutations, recorder }: DueParts, id: string): Promise<void> {
  await mutations.system("VmDue", async (change) => {
    const row = await claimVm(change.em, id, isDue);
    if (!row) return;
    const why = row.deleteTime ? "purged" : "expired";
    follow(rowState(row), why, row.name);
    row.generation += 1n;
    await noteAsked(change.em, row, systemItself, row.deleteTime ? "PURGED" : "EXPIRED");
    await end(change, row);
    await recorder.changed(change, row, { tellNode: true });
    await change.audit({ object: `vm/${row.id}`, projectId: row.projectId, generation: row.generation, detail: { name: row.name, why } });
  });
}

/** What expires goes the way of what is deleted; what was deleted goes for good. */
async function end({ em }: Change, row: VmRow): Promise<void> {
  const project = row.deleteTime ? undefined : await em.findOne(ProjectEntity, { id: row.projectId });
  if (project && project.undeleteWindowMs > 0n) await markDeleted(em, row, project.undeleteWindowMs);
  else {
    row.desired = Desired.DESIRED_DELETED;
    withdraw(row); // its node may be lost, and never say that it is gone
  }
}
