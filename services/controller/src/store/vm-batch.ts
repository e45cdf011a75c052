// Many VMs' rows in one change, each statement for all of them.
//
// A change of one VM draws its transaction's number under the VM's lock (vm-rows.ts), so that its events are in the order of its changes.
// Here the number may be drawn long before a lock is had, so a VM is left out when somebody else has it at that moment, or changed it in a
// transaction of a higher number: it is to be changed alone. Nobody waits for a VM, so nobody can wait in a circle.
import type { VmRow } from "./entities.ts";
import type { EntityManager } from "./store.ts";
import { columnNames, recordTypes, toVmRow, vmColumns, vmRecord } from "./vm-columns.ts";
import { changeTime, timeOf, type NewVmEvent, type VmNames } from "./vm-rows.ts";

/** Without locks; those that are there. */
export async function readVms(em: EntityManager, by: "id" | "node_id", ids: readonly string[]): Promise<VmRow[]> {
  if (ids.length === 0) return [];
  const rows: Record<string, unknown>[] = await em.execute(`select ${vmColumns} from vm where ${by} = any(?::uuid[])`, [arrayOf(ids)]);
  return rows.map(toVmRow);
}

export interface LockedVm {
  readonly row: VmRow;
  /** Its next. */
  readonly revision: bigint;
  /** Of this change. */
  readonly time: Date;
  readonly names: VmNames;
}

interface LockedRow extends Readonly<Record<string, unknown>> {
  readonly own: string;
  readonly version: string;
  readonly next: string;
  readonly time_ms: string;
  readonly node_name: string | null;
  readonly project_name: string | null;
}

/** Those of the VMs that can be changed in this change, by id. */
export async function lockVms(em: EntityManager, ids: readonly string[]): Promise<ReadonlyMap<string, LockedVm>> {
  const rows: LockedRow[] = await em.execute(
    `with locked as materialized (
       select vm.*, vm.xmin as version from vm where id = any(?::uuid[]) for update skip locked)
     select pg_current_xact_id()::text as own, version::text, nextval('vm_revision') as next, ${changeTime}, ${vmColumns},
       (select name from node where node.id = vm.node_id) as node_name, (select name from project where project.id = vm.project_id) as project_name
     from locked as vm`,
    [arrayOf(ids)],
  );
  return new Map(
    rows.flatMap((found) => {
      if (!isOlder(found.version, found.own)) return [];
      const row = toVmRow(found);
      const names = { node: found.node_name ?? "", project: found.project_name ?? "" };
      return [[row.id, { row, revision: BigInt(found.next), time: timeOf(found), names }]];
    }),
  );
}

/** Whether the transaction that made a row's version has the lower number. Versions have the lower half of a number, which wraps around. */
function isOlder(version: string, own: string): boolean {
  return BigInt.asIntN(32, BigInt(own) - BigInt(version)) > 0n;
}

const reported = [
  ...(["id", "phase", "reason", "message", "observedGeneration", "sshHostKey", "restartCount", "health", "serviceExit"] as const),
  ...(["asked", "timings", "updateTime", "revision"] as const),
];

/** Writes what nodes reported into rows that {@link lockVms} locked, with the events that tell of it. */
export async function writeReported(
  em: EntityManager,
  changed: readonly { readonly row: VmRow; readonly event: NewVmEvent }[],
): Promise<void> {
  const set = columnNames(reported).filter((name) => name !== "id");
  await em.execute(
    `with given as materialized (
       select * from jsonb_to_recordset(?::jsonb) as given(${recordTypes(reported)}, at int, project_id uuid, node_id uuid, body text)),
     changed as (
       update vm set ${set.map((name) => `${name} = given.${name}`).join(", ")} from given where vm.id = given.id and vm.id = any(?::uuid[]))
     insert into vm_event (vm_id, project_id, node_id, revision, tell_node, body)
     select id, project_id, node_id, revision, false, decode(body, 'base64') from given order by at`,
    [
      JSON.stringify(changed.map(({ row, event }, at) => ({ ...vmRecord(row, reported), at, ...eventRecord(event) }))),
      arrayOf(changed.map(({ row }) => row.id)),
    ],
  );
}

function eventRecord({ projectId, nodeId, body }: NewVmEvent): Record<string, unknown> {
  return { project_id: projectId, node_id: nodeId, body: Buffer.from(body).toString("base64") };
}

/** Ids as PostgreSQL writes an array of them: it then knows how few they are, and looks each up. */
const arrayOf = (ids: readonly string[]): string => `{${ids.join(",")}}`;
