// Sessions as rows: one per node, the newest. Its epoch fences writes: the database refuses what an older session says.
import { Driver } from "@pitwall/proto/pitwall/v1/node.ts";
import type { Hello } from "@pitwall/proto/pitwall/v1/link.ts";
import { planted } from "@pitwall/runtime";
import type { EntityManager, Store } from "../store/store.ts";
import { lifeOf, type NodeLife } from "./liveness.ts";
import { subnetOf } from "./subnet.ts";

/** Who holds sessions. */
export interface Holder {
  readonly id: string;
  /** `host:port` of its link, as other controllers reach it. */
  readonly address: string;
}

export interface SessionKey {
  readonly nodeId: string;
  readonly epoch: bigint;
}

/** A session as any controller sees it. */
export interface SeenSession extends SessionKey {
  readonly life: NodeLife;
  readonly holder: Holder;
  readonly capability: number;
  readonly renewTime: Date;
  readonly leaseExpireTime: Date;
}

interface Row {
  readonly node_id: string;
  readonly epoch: string;
  readonly controller_id: string;
  readonly controller_address: string;
  readonly capability: number;
  readonly renew_ms: string;
  readonly lease_expire_ms: string;
  readonly end_ms: string | null;
  readonly lost_ms: string | null;
  readonly now_ms: string;
}

const ms = (column: string): string => `extract(epoch from ${column}) * 1000`;

export interface Begun {
  readonly epoch: bigint;
  /** Its join token gave the node other labels than it says. */
  readonly saysOtherLabels: boolean;
}

/** Why a session ended. */
export type EndReason = "stream" | "silent" | "goodbye" | "drain";

/**
 * Begins the next session of each node in one statement, and takes what its hello says of it. Nodes that are not known, and so were
 * removed, or were revoked, are missing in the answer.
 */
export async function beginSessions(
  store: Store,
  holder: Holder,
  hellos: readonly { readonly nodeId: string; readonly hello: Hello }[],
  leaseMs: number,
): Promise<ReadonlyMap<string, Begun>> {
  const said = hellos.map(({ nodeId, hello }) => ({
    id: nodeId,
    capability: hello.capability,
    cpu_millis: String(hello.capacity?.cpuMillis ?? 0n),
    mem_bytes: String(hello.capacity?.memBytes ?? 0n),
    disk_bytes: String(hello.capacity?.diskBytes ?? 0n),
    drivers: hello.drivers.map((driver) => Driver.toJSON(driver)),
    labels: hello.labels,
    agent_version: hello.agentVersion,
    subnet: subnetOf(hello)?.ipv4 ?? null,
    subnet6: subnetOf(hello)?.ipv6 ?? null,
    host: hello.host ?? null,
  }));
  const rows = await store.write<{ node_id: string; epoch: string; says_other_labels: boolean }>(
    `with hello as (
         select * from jsonb_to_recordset(?::jsonb) as hello(id uuid, capability int, cpu_millis bigint, mem_bytes bigint,
           disk_bytes bigint, drivers jsonb, labels jsonb, agent_version text, subnet text, subnet6 text, host text)
       ), twin as (
         select id from hello join node_session s on node_id = id
           where s.host <> hello.host and end_time is null and lost_time is null and lease_expire_time > now()
       ), known as (
         update node set cpu_millis = hello.cpu_millis, mem_bytes = hello.mem_bytes, disk_bytes = hello.disk_bytes,
           drivers = hello.drivers, labels = coalesce(node.bound_labels, hello.labels), agent_version = hello.agent_version
         from hello where node.id = hello.id and node.revoke_time is null and node.id not in (select id from twin) returning node.id, hello.capability, node.labels <> hello.labels as says_other_labels, hello.host
       ), withdrawn as (
         delete from node_subnet using hello join known using (id) where node_id = hello.id and hello.subnet is null
       ), subnets as (
         insert into node_subnet as had
         select id, network(subnet::inet), network(subnet6::inet), host(network(subnet::inet))::inet + 1
           from hello join known using (id) where subnet is not null order by id
         on conflict (node_id) do update set network = excluded.network, network6 = excluded.network6,
           latest = case when had.network = excluded.network then had.latest else excluded.latest end
       )
       insert into node_session as held
         (node_id, epoch, controller_id, controller_address, capability, host, start_time, renew_time, lease_expire_time)
       select id, 1, ?, ?, capability, host, now(), now(), now() + ? * interval '1 millisecond' from known order by id
       on conflict (node_id) do update set epoch = held.epoch + 1, controller_id = excluded.controller_id,
         controller_address = excluded.controller_address, capability = excluded.capability, host = excluded.host, start_time = excluded.start_time,
         renew_time = excluded.renew_time, lease_expire_time = excluded.lease_expire_time, end_time = null, end_reason = '',
         lost_time = null, change_time = now()
       returning node_id, epoch, (select says_other_labels from known where id = node_id)`,
    [JSON.stringify(said), holder.id, holder.address, leaseMs],
  );
  await giveAddresses(
    store,
    said.flatMap(({ id, subnet }) => (subnet === null ? [] : [id])),
  );
  return new Map(rows.map((row) => [row.node_id, { epoch: BigInt(row.epoch), saysOtherLabels: row.says_other_labels }]));
}

/** To VMs that were placed before their node had this subnet. */
async function giveAddresses(store: Store, nodeIds: readonly string[]): Promise<void> {
  if (nodeIds.length === 0) return;
  await store.write(
    `update vm set address = null from node_subnet s
       where s.node_id = vm.node_id and vm.node_id = any(?::uuid[])
         and (address is null or not address::inet << s.network or not address6::inet << s.network6)`,
    [`{${nodeIds.join(",")}}`],
  );
}

/** Renews leases in one statement. The answer holds the nodes whose session is still the newest. */
export async function renewLeases(store: Store, sessions: readonly SessionKey[], leaseMs: number): Promise<ReadonlySet<string>> {
  const held = sessions.map(({ nodeId, epoch }) => ({ node_id: nodeId, epoch: String(epoch) }));
  const rows = await store.write<{ node_id: string }>(
    `update node_session set renew_time = now(), lease_expire_time = now() + ? * interval '1 millisecond'
       from jsonb_to_recordset(?::jsonb) as held(node_id uuid, epoch bigint)
       where node_session.node_id = held.node_id and node_session.epoch = held.epoch and end_time is null and lost_time is null
       returning node_session.node_id`,
    [leaseMs, JSON.stringify(held)],
  );
  return new Set(rows.map(({ node_id }) => node_id));
}

/** Writes in one statement that links ended, but for those whose nodes have newer ones. */
export async function endSessions(store: Store, ended: readonly (SessionKey & { readonly reason: EndReason })[]): Promise<void> {
  const rows = ended.map(({ nodeId, epoch, reason }) => ({ node_id: nodeId, epoch: String(epoch), reason }));
  await store.write(
    `update node_session set end_time = now(), end_reason = reason, change_time = now()
       from jsonb_to_recordset(?::jsonb) as ended(node_id uuid, epoch bigint, reason text)
       where node_session.node_id = ended.node_id and node_session.epoch = ended.epoch and end_time is null`,
    [JSON.stringify(rows)],
  );
}

/**
 * Whether a write about a node may go on: only if its session is the newest, and stays so until the transaction ends. A hello that comes
 * meanwhile waits for it. The transaction's `pitwall.session` says from then on by whose word it writes: `NODE/EPOCH`, for triggers.
 */
export async function holdsSession(em: EntityManager, { nodeId, epoch }: SessionKey): Promise<boolean> {
  const rows: unknown[] = await em.execute(
    `select set_config('pitwall.session', ?, true) from node_session
     where node_id = ? and (epoch = ? or ?) and lost_time is null for key share`,
    [`${nodeId}/${epoch}`, nodeId, String(epoch), planted("old-session-writes")],
  );
  return rows.length > 0;
}

/**
 * The same for several sessions in one change; their nodes. A session that somebody has at this moment, as a newer hello of its node, is
 * left out, and is to be asked about alone: nobody waits here. `pitwall.session` has a word for each.
 */
export async function holdSessions(em: EntityManager, sessions: readonly SessionKey[]): Promise<ReadonlySet<string>> {
  const rows: { node_id: string }[] = await em.execute(
    `with held as materialized (
       select node_session.node_id, given.epoch from node_session join jsonb_to_recordset(?::jsonb) as given(node_id uuid, epoch bigint)
         on node_session.node_id = given.node_id and (node_session.epoch = given.epoch or ?)
       where lost_time is null for key share of node_session skip locked)
     select node_id, set_config('pitwall.session', (select string_agg(concat(node_id, '/', epoch), ' ') from held), true) from held`,
    [JSON.stringify(sessions.map(({ nodeId, epoch }) => ({ node_id: nodeId, epoch: String(epoch) }))), planted("old-session-writes")],
  );
  return new Set(rows.map(({ node_id }) => node_id));
}

/** The newest session of each node, or of one. */
export async function seenSessions(em: EntityManager, nodeId?: string): Promise<ReadonlyMap<string, SeenSession>> {
  const rows: Row[] = await em.execute(
    `select node_id, epoch, controller_id, controller_address, capability, ${ms("renew_time")} as renew_ms,
       ${ms("lease_expire_time")} as lease_expire_ms, ${ms("end_time")} as end_ms, ${ms("lost_time")} as lost_ms, ${ms("now()")} as now_ms
     from node_session ${nodeId === undefined ? "" : "where node_id = ?"}`,
    nodeId === undefined ? [] : [nodeId],
  );
  return new Map(rows.map((row) => [row.node_id, toSeen(row)]));
}

/** Nodes whose state others should look at again: changed within the last `withinMs`. The newest epoch of each, and what tells changes apart. */
export async function changedNodes(em: EntityManager, withinMs: number): Promise<readonly (SessionKey & { readonly mark: string })[]> {
  const rows: { node_id: string; epoch: string | null; mark: string }[] = await em.execute(
    `select node.id as node_id, epoch, concat(node.change_time, ' ', node_session.change_time) as mark from node left join node_session on node_id = node.id
     where node.change_time > now() - ? * interval '1 millisecond' or node_session.change_time > now() - ? * interval '1 millisecond'`,
    [withinMs, withinMs],
  );
  return rows.map(({ node_id, epoch, mark }) => ({ nodeId: node_id, epoch: BigInt(epoch ?? 0), mark }));
}

function toSeen(row: Row): SeenSession {
  const at = (value: string | null): number | undefined => (value === null ? undefined : Number(value));
  const times = { leaseExpireMs: Number(row.lease_expire_ms), endMs: at(row.end_ms), lostMs: at(row.lost_ms) };
  return {
    nodeId: row.node_id,
    epoch: BigInt(row.epoch),
    life: lifeOf(times, Number(row.now_ms)),
    holder: { id: row.controller_id, address: row.controller_address },
    capability: row.capability,
    renewTime: new Date(Number(row.renew_ms)),
    leaseExpireTime: new Date(times.leaseExpireMs),
  };
}
