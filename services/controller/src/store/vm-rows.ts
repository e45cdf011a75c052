// A VM's row, locked for a change, and the events that tell of it.
import { LockMode } from "@mikro-orm/postgresql";
import { VmEntity, type VmRow } from "./entities.ts";
import type { EntityManager } from "./store.ts";

/**
 * The row as it is now, until the end of the change nobody else's. Undefined: gone.
 *
 * Must come before everything else that a change writes or locks, and once in a change: the transaction's number is then drawn under the
 * lock, so that events in the order of (txid, seq) are in the order of each VM's changes. Anything else is refused.
 */
export async function lockVm(em: EntityManager, id: string): Promise<VmRow | undefined> {
  const [{ txid } = { txid: null }]: { txid: string | null }[] = await em.execute("select pg_current_xact_id_if_assigned() as txid");
  if (txid !== null) throw new Error("a VM must be locked before anything else of the change is written");
  const row = await em.findOne(VmEntity, { id }, { lockMode: LockMode.PESSIMISTIC_WRITE, refresh: true });
  return row ?? undefined;
}

/** The same for whoever comes first: undefined also when somebody else has the row, or it does not satisfy the condition (SQL) any more. */
export async function claimVm(em: EntityManager, id: string, condition: string): Promise<VmRow | undefined> {
  const rows: unknown[] = await em.execute(`select 1 from vm where id = ? and (${condition}) for update skip locked`, [id]);
  const row = rows.length === 0 ? undefined : await em.findOne(VmEntity, { id }, { refresh: true });
  return row ?? undefined;
}

/** Of all VMs; drawn under a VM's lock, so that it grows with each of its changes. */
export async function nextRevision(em: EntityManager): Promise<bigint> {
  const [row]: { next: string }[] = await em.execute("select nextval('vm_revision') as next");
  return BigInt(row?.next ?? 0);
}

export interface NewVmEvent extends Pick<VmRow, "id" | "projectId" | "nodeId" | "revision"> {
  /** Whether its node must be told what the VM should be. */
  readonly tellNode: boolean;
  /** The VM as the API speaks of it, encoded. */
  readonly body: Uint8Array;
}

export async function writeVmEvent(em: EntityManager, { id, projectId, nodeId, revision, tellNode, body }: NewVmEvent): Promise<void> {
  await em.execute("insert into vm_event (vm_id, project_id, node_id, revision, tell_node, body) values (?, ?, ?, ?, ?, ?)", [
    ...[id, projectId, nodeId, revision, tellNode, Buffer.from(body)],
  ]);
}
