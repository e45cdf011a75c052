// A VM's row, locked for a change, and the events that tell of it.
import type { EntityDictionary } from "@mikro-orm/postgresql";
import { VmEntity, type VmRow } from "./entities.ts";
import type { EntityManager } from "./store.ts";

/**
 * The row as it is now, until the end of the change nobody else's. Undefined: gone.
 *
 * Must come before everything else that a change writes or locks, and once in a change: the transaction's number is then drawn under the
 * lock, so that events in the order of (txid, seq) are in the order of each VM's changes. Anything else is refused.
 */
export async function lockVm(em: EntityManager, id: string): Promise<VmRow | undefined> {
  // Whether a number was drawn before is asked in the same question, ahead of the lock, which draws one.
  const [found]: ({ drawn_before: string | null } & Record<string, unknown>)[] = await em.execute(
    `with known as materialized (select pg_current_xact_id_if_assigned() as drawn_before)
     select drawn_before, vm.* from known, vm where vm.id = ? for update of vm`,
    [id],
  );
  if (!found) return undefined;
  const { drawn_before: drawnBefore, ...row } = found;
  if (drawnBefore !== null) throw new Error("a VM must be locked before anything else of the change is written");
  return em.map(VmEntity, row as EntityDictionary<VmRow>); // its columns, as they came
}

/** The same for whoever comes first: undefined also when somebody else has the row, or it does not satisfy the condition (SQL) any more. */
export async function claimVm(em: EntityManager, id: string, condition: string): Promise<VmRow | undefined> {
  const rows: unknown[] = await em.execute(`select 1 from vm where id = ? and (${condition}) for update skip locked`, [id]);
  const row = rows.length === 0 ? undefined : await em.findOne(VmEntity, { id }, { refresh: true });
  return row ?? undefined;
}

/** The names of what a VM's row refers to; empty for what is gone. */
export interface VmNames {
  readonly node: string;
  readonly project: string;
}

/** SQL: of a change that is being made, by the clock that all controllers have in common. Asked under the VM's lock, so that it does not go back. */
export const changeTime = "extract(epoch from clock_timestamp()) * 1000 as time_ms";

export function timeOf(row: { readonly time_ms: string } | undefined): Date {
  return new Date(Math.floor(Number(row?.time_ms)));
}

const names = "(select name from node where id = ?) as node, (select name from project where id = ?) as project";

export async function vmNames(em: EntityManager, { nodeId, projectId }: Pick<VmRow, "nodeId" | "projectId">): Promise<VmNames> {
  const [row]: { node: string | null; project: string | null }[] = await em.execute(`select ${names}`, [nodeId, projectId]);
  return { node: row?.node ?? "", project: row?.project ?? "" };
}

/**
 * Of all VMs; drawn under a VM's lock, so that it grows with each of its changes. With the time of the change, and the names that go with
 * the row, in one question.
 */
export async function nextRevision(
  em: EntityManager,
  { nodeId, projectId }: Pick<VmRow, "nodeId" | "projectId">,
): Promise<{ readonly revision: bigint; readonly time: Date; readonly names: VmNames }> {
  const [row]: { next: string; time_ms: string; node: string | null; project: string | null }[] = await em.execute(
    `select nextval('vm_revision') as next, ${changeTime}, ${names}`,
    [nodeId, projectId],
  );
  return { revision: BigInt(row?.next ?? 0), time: timeOf(row), names: { node: row?.node ?? "", project: row?.project ?? "" } };
}

export interface NewVmEvent extends Pick<VmRow, "id" | "projectId" | "nodeId" | "revision"> {
  /** Whether its node must be told what the VM should be. */
  readonly tellNode: boolean;
  /** It is the VM's last one. */
  readonly gone?: boolean;
  /** The VM as the API speaks of it, encoded. */
  readonly body: Uint8Array;
}

export async function writeVmEvent(
  em: EntityManager,
  { id, projectId, nodeId, revision, tellNode, gone = false, body }: NewVmEvent,
): Promise<void> {
  await em.execute("insert into vm_event (vm_id, project_id, node_id, revision, tell_node, gone, body) values (?, ?, ?, ?, ?, ?, ?)", [
    ...[id, projectId, nodeId, revision, tellNode, gone, Buffer.from(body)],
  ]);
}
