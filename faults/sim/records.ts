// What the database of a simulation knows of a run, as a history has it.
import { Desired } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { RowWrite, SessionLoss } from "../observer/history.ts";
import { wishes, type SimFinalVm, type SimHistory, type SimWrite, type Wish } from "../observer/sim-history.ts";
import type { SimDatabase } from "./database.ts";

/** Integers of 64 bits come as text. */
interface WriteRow extends Record<string, unknown> {
  readonly op: RowWrite["op"];
  readonly vm: string;
  readonly node: string;
  readonly request: string;
  readonly name: string;
  readonly is_held: boolean;
  readonly reason: string;
  readonly said_by: string;
  readonly session: string;
}

export async function finalVms(database: SimDatabase): Promise<SimFinalVm[]> {
  const rows = await database.query<{
    id: string;
    node_id: string;
    desired: number;
    phase: number;
    reason: string;
    generation: string;
    observed_generation: string;
    revision: string;
    ssh_host_key: string;
    cpu_millis: number;
    epoch: string;
    policy_generation: string;
    moves: boolean;
  }>(
    `select id, node_id, desired, phase, reason, generation, observed_generation, revision, ssh_host_key, cpu_millis, epoch, policy_generation,
       spec->>'nodeLossPolicy' = 'NODE_LOSS_POLICY_RESCHEDULE' as moves from vm`,
  );
  return rows.map((row) => ({
    ...{ vm: row.id, node: row.node_id, desired: row.desired, phase: row.phase, reason: row.reason, hostKey: row.ssh_host_key },
    ...{ generation: Number(row.generation), observed: Number(row.observed_generation), revision: Number(row.revision) },
    ...{ cpuMillis: row.cpu_millis, epoch: Number(row.epoch), movesSince: row.moves ? Number(row.policy_generation) : undefined },
  }));
}

export async function eventCount(database: SimDatabase): Promise<number> {
  const [row] = await database.query<{ count: number }>("select count(*)::int as count from vm_event");
  return row?.count ?? 0;
}

export async function records(
  database: SimDatabase,
): Promise<Pick<SimHistory, "writes" | "losses" | "audited" | "ownChanges" | "events" | "final">> {
  const writes = await database.query<WriteRow>("select * from sim.vm_write order by seq");
  const losses = await database.query<{ node: string; lost_ms: number; renewed_ms: number }>("select * from sim.loss");
  const audited = await database.query<{ request_id: string }>("select request_id from audit_entry where request_id is not null");
  const own = await database.query<{ object: string; generation: string }>(
    "select object, generation from audit_entry where actor = 'system' and object like 'vm/%' and generation > 0",
  );
  const events = await database.query<{ vm_id: string; revision: string }>("select vm_id, revision from vm_event");
  return {
    writes: writes.map(toWrite),
    losses: losses.map(({ node, lost_ms, renewed_ms }): SessionLoss => ({ node, lostMs: lost_ms, renewedMs: renewed_ms })),
    audited: audited.map(({ request_id }) => request_id),
    ownChanges: own.map(({ object, generation }) => ({ vm: object.slice("vm/".length), generation: Number(generation) })),
    events: events.map(({ vm_id, revision }) => ({ vm: vm_id, revision: Number(revision) })),
    final: await finalVms(database),
  };
}

function toWrite(row: WriteRow): SimWrite {
  const number = (key: string): number => Number(row[key]);
  const desired = number("desired");
  return {
    ...{ seq: number("seq"), atMs: number("at_ms"), op: row.op, vm: row.vm, node: row.node, request: row.request, name: row.name },
    ...{ epoch: number("epoch"), generation: number("generation"), observed: number("observed"), phase: number("phase") },
    ...{ desired, cpuMillis: number("cpu_millis"), memBytes: number("mem_bytes") },
    ...{ ownsName: !row.is_held, wish: wishOf(desired, row.is_held), reason: row.reason, saidBy: row.said_by, session: row.session },
  };
}

function wishOf(desired: number, isHeld: boolean): Wish {
  if (desired === Desired.DESIRED_DELETED) return "deleted";
  if (isHeld) return "held";
  return wishes.get(desired) ?? "stopped";
}
