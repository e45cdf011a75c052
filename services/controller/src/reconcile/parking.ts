// VMs that a reconciler stumbles over: tried again ever later, so that one of them does not hold up all others, and seen by somebody once
// that has happened often.
import { messageChain, type Log } from "@pitwall/runtime";
import type { Mutations } from "../mutation/mutations.ts";
import { VmEntity } from "../store/entities.ts";
import { isNodeFull, type Store } from "../store/store.ts";

const maxFailures = 5;
const longestSeconds = 600;

/** In a query of `vm`: those whose time to be tried again has not come are left out. */
export const isNotParked = "not exists (select from vm_parked p where p.vm_id = vm.id and p.retry_time > now())";
/** In the same query: whether it has failed before, for {@link Parking.guard}. */
export const wasParked = "exists (select from vm_parked p where p.vm_id = vm.id) as was_parked";

/** A row of such a query. */
export interface Guarded {
  readonly id: string;
  readonly was_parked: boolean;
}

export interface Parking {
  /** Runs the work on a VM. Rejects only when what went wrong with it cannot be noted. That its node was full meanwhile is no failure. */
  guard(vm: Guarded, work: () => Promise<void>): Promise<void>;
}

export function openParking({
  store,
  mutations,
  log,
}: {
  readonly store: Store;
  readonly mutations: Mutations;
  readonly log: Log;
}): Parking {
  /** How often it has failed by now. */
  async function note(vmId: string, message: string): Promise<number> {
    const [row]: { failures: number }[] = await store.change((em) =>
      em.execute(
        `insert into vm_parked as p (vm_id, failures, retry_time, message) values (?, 1, now() + interval '1 second', ?)
         on conflict (vm_id) do update set failures = p.failures + 1, message = excluded.message,
           retry_time = now() + least(power(2, p.failures), ${longestSeconds}) * interval '1 second'
         returning failures`,
        [vmId, message.slice(0, 1_000)],
      ),
    );
    return row?.failures ?? 0;
  }

  return {
    async guard({ id: vmId, was_parked }, work) {
      try {
        await work();
        if (was_parked) await store.change((em) => em.execute("delete from vm_parked where vm_id = ?", [vmId]));
      } catch (error) {
        if (isNodeFull(error)) return;
        const failures = await note(vmId, messageChain(error));
        log.warn("a VM could not be dealt with; it is tried again later", { vm: vmId, failures, error });
        if (failures !== maxFailures) return;
        await mutations.system("VmParked", async (change) => {
          const row = await change.em.findOne(VmEntity, { id: vmId });
          if (row) await change.audit({ object: `vm/${vmId}`, projectId: row.projectId, detail: { failures } });
        });
      }
    },
  };
}
