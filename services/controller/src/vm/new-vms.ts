// The rows that making VMs leaves, for several VMs in one change: what must be known before, and what is written.
import { answersFrom, type AnswerRecord, type KnownRequest } from "../mutation/answers.ts";
import { auditFrom, type AuditEntryRecord } from "../mutation/audit.ts";
import type { VmRow } from "../store/entities.ts";
import type { EntityManager } from "../store/store.ts";
import { allVmColumns, columnNames, recordTypes, vmRecord } from "../store/vm-columns.ts";
import { changeTime, timeOf } from "../store/vm-rows.ts";
import { readyNode } from "./placer.ts";

export interface AskedVm {
  readonly row: Pick<VmRow, "name" | "projectId" | "nodeId" | "cpuMillis" | "memBytes" | "diskBytes">;
  /** Empty: it has none. */
  readonly subject: string;
  readonly requestId: string;
}

export interface Known {
  readonly earlier: KnownRequest | undefined;
  /** The name is another VM's, or the quota does not allow it, counted with those before it. */
  readonly isRefused: boolean;
  readonly revision: bigint;
  /** Of this change. */
  readonly time: Date;
  /** Undefined: nothing may be placed there any more, or it is gone. */
  readonly node: string | undefined;
  readonly project: string | undefined;
}

interface KnownRow {
  readonly at: number;
  readonly revision: string;
  readonly time_ms: string;
  readonly project: string | null;
  readonly node: string | null;
  readonly is_taken: boolean;
  readonly method: string | null;
  readonly digest: string;
  readonly answer: Buffer | null;
  readonly left: Readonly<Record<"vms" | "cpu" | "mem" | "disk" | "addresses", string>>;
}

/**
 * In the order of `asked`. Locks what nodes and projects give, in an order that all have, so that changes of several VMs cannot wait for
 * each other in a circle.
 */
export async function knownOf(em: EntityManager, asked: readonly AskedVm[]): Promise<Known[]> {
  const given = asked.map(({ row, subject, requestId }, at) => ({
    ...{ at, name: row.name, project_id: row.projectId, node_id: row.nodeId, subject },
    request_id: requestId === "" ? null : requestId,
  }));
  const rows: KnownRow[] = await em.execute(
    `with given as materialized (
       select * from jsonb_to_recordset(?::jsonb) as given(at int, name text, project_id uuid, node_id uuid, subject text, request_id uuid)),
     nodes as materialized (
       select from node_allocation where node_id in (select node_id from given) order by node_id for no key update),
     usages as materialized (
       select * from project_usage where project_id in (select project_id from given) order by project_id for no key update)
     select (select count(*) from nodes) as nodes, (select count(*) from usages) as usages, given.at, nextval('vm_revision') as revision, ${changeTime},
       project.name as project,
       (select node.name from node join node_session s on s.node_id = node.id where node.id = given.node_id and ${readyNode}) as node,
       exists (select from vm where vm.project_id = given.project_id and vm.name = given.name and vm.delete_time is null) as is_taken,
       request.method, request.digest, request.answer,
       json_build_object('vms', (quota_vms - coalesce(u.vms, 0))::text, 'cpu', (quota_cpu_millis - coalesce(u.cpu_millis, 0))::text,
         'mem', (quota_mem_bytes - coalesce(u.mem_bytes, 0))::text, 'disk', (quota_disk_bytes - coalesce(u.disk_bytes, 0))::text,
         'addresses', (quota_addresses - coalesce(u.addresses, 0))::text) as left
     from given left join project on project.id = given.project_id left join usages u on u.project_id = given.project_id
       left join request on request.owner = given.subject and request.request_id = given.request_id
     order by given.at`,
    [JSON.stringify(given)],
  );
  const left = new Map<string, Record<keyof KnownRow["left"], bigint>>();
  const names = new Set<string>();
  return asked.map(({ row }, at) => {
    const found = rows[at];
    if (!found) throw new Error("a VM that is to be made was not asked about");
    const { revision, project, node, is_taken: isTaken, method, digest, answer } = found;
    const earlier = method === null ? undefined : { method, digest, answer };
    const known = { earlier, revision: BigInt(revision), time: timeOf(found), node: node ?? undefined, project: project ?? undefined };
    if (earlier) return { ...known, isRefused: false };
    const quota = left.get(row.projectId) ?? quotaLeft(found);
    const after = {
      vms: quota.vms - 1n,
      cpu: quota.cpu - BigInt(row.cpuMillis),
      mem: quota.mem - row.memBytes,
      disk: quota.disk - row.diskBytes,
      addresses: quota.addresses - 1n,
    };
    const name = `${row.projectId} ${row.name}`;
    const isRefused = isTaken || names.has(name) || Object.values(after).some((amount) => amount < 0n);
    if (!isRefused) {
      left.set(row.projectId, after);
      names.add(name);
    }
    return { ...known, isRefused };
  });
}

function quotaLeft({ left: { vms, cpu, mem, disk, addresses } }: KnownRow): Record<keyof KnownRow["left"], bigint> {
  return { vms: BigInt(vms), cpu: BigInt(cpu), mem: BigInt(mem), disk: BigInt(disk), addresses: BigInt(addresses) };
}

export interface NewVm {
  readonly row: VmRow;
  /** The VM as the API speaks of it, encoded. */
  readonly body: Uint8Array;
  readonly entry: AuditEntryRecord;
  /** Undefined: the request has no id. */
  readonly answer: AnswerRecord | undefined;
}

/** Writes VMs with all that making them leaves. Fails as a whole. */
export async function insertVms(em: EntityManager, made: readonly NewVm[]): Promise<void> {
  const names = columnNames(allVmColumns).join(", ");
  await em.execute(
    `with given as materialized (
       select * from jsonb_to_recordset(?::jsonb) as given(${recordTypes(allVmColumns)}, at int, body text, entry jsonb, answer jsonb)),
     made as (insert into vm (${names}) select ${names} from given order by at),
     told as (
       insert into vm_event (vm_id, project_id, node_id, revision, tell_node, body)
       select id, project_id, node_id, revision, true, decode(body, 'base64') from given order by at),
     noted as (${auditFrom("given", "entry", "at")})
     ${answersFrom("given", "answer")}`,
    [
      JSON.stringify(
        made.map(({ row, body, entry, answer = null }, at) => ({
          ...vmRecord(row, allVmColumns),
          ...{ at, body: Buffer.from(body).toString("base64"), entry, answer },
        })),
      ),
    ],
  );
}
