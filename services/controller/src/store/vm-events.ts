// The events of VMs, read in their order.
//
// An event is settled once every transaction that may still write one before it has ended: its transaction's number is below the horizon,
// the oldest one that runs. Only settled events are read, so that none can turn up behind a reader.
//
// A reader stands at an event, never at the horizon: numbers below it may belong to transactions that left nothing on disk, and a server that
// crashes gives those again.
import type { Store } from "./store.ts";

/** Where a reader stands: at an event, behind all before it, in the order of (txid, seq). */
export interface EventPosition {
  readonly txid: bigint;
  readonly seq: bigint;
}

export interface VmEvent {
  readonly position: EventPosition;
  readonly vmId: string;
  readonly projectId: string;
  readonly nodeId: string;
  readonly tellNode: boolean;
  readonly revision: bigint;
  readonly body: Uint8Array;
}

export interface SettledEvents {
  readonly events: readonly VmEvent[];
  /** Of the last event. */
  readonly position: EventPosition;
  /** What no event is below that is not among these or before them, unless `hasMore`. Good for as long as the server does not crash. */
  readonly horizon: bigint;
  readonly hasMore: boolean;
  /** Some events are there that are not settled. */
  readonly hasUnsettled: boolean;
}

interface Row {
  readonly horizon: string;
  readonly txid: string | null;
  readonly seq: string;
  readonly vm_id: string;
  readonly project_id: string;
  readonly node_id: string;
  readonly tell_node: boolean;
  readonly revision: string;
  readonly body: Buffer;
}

/** At most `limit` events. */
export async function readSettled(store: Store, { txid, seq }: EventPosition, limit: number): Promise<SettledEvents> {
  const rows: Row[] = await store.read().execute(
    `select pg_snapshot_xmin(pg_current_snapshot()) as horizon, e.txid, e.seq, vm_id, project_id, node_id, tell_node, revision, body
     from (select) as always left join vm_event e on (e.txid, e.seq) > (?::text::xid8, ?) order by e.txid, e.seq limit ${limit}`,
    [String(txid), seq],
  );
  const horizon = BigInt(rows[0]?.horizon ?? 0);
  const there = rows.filter((row) => row.txid !== null).map(toEvent);
  const events = there.filter((event) => event.position.txid < horizon);
  const hasUnsettled = events.length < there.length;
  const hasMore = !hasUnsettled && there.length === limit;
  return { events, position: events.at(-1)?.position ?? { txid, seq }, horizon, hasMore, hasUnsettled };
}

function toEvent(row: Row): VmEvent {
  return {
    position: { txid: BigInt(row.txid ?? 0), seq: BigInt(row.seq) },
    vmId: row.vm_id,
    projectId: row.project_id,
    nodeId: row.node_id,
    tellNode: row.tell_node,
    revision: BigInt(row.revision),
    body: row.body,
  };
}

/** The last event that is settled now, or the last one that was forgotten. */
export async function lastSettled(store: Store): Promise<EventPosition> {
  const [row]: { txid: string; seq: string }[] = await store.read().execute(
    `(select txid, seq from vm_event where txid < pg_snapshot_xmin(pg_current_snapshot()) order by txid desc, seq desc limit 1)
     union all (select txid, seq from vm_event_floor) order by txid desc, seq desc limit 1`,
  );
  return { txid: BigInt(row?.txid ?? 0), seq: BigInt(row?.seq ?? 0) };
}

/** Above the numbers of all transactions that anybody can have read from before this call. */
export async function horizonOfReads(store: Store): Promise<bigint> {
  const [row]: { next: string }[] = await store.read().execute("select pg_snapshot_xmax(pg_current_snapshot()) as next");
  return BigInt(row?.next ?? 0);
}

/** Whether nothing behind the position has been forgotten. To be asked after reading. */
export async function isRemembered(store: Store, { txid, seq }: EventPosition): Promise<boolean> {
  const rows = await store
    .read()
    .execute<unknown[]>("select from vm_event_floor where (txid, seq) <= (?::text::xid8, ?)", [String(txid), seq]);
  return rows.length > 0;
}

export function isBehind(one: EventPosition, other: EventPosition): boolean {
  return one.txid < other.txid || (one.txid === other.txid && one.seq < other.seq);
}

/** Forgets events that are older, and the oldest beyond `maxEvents`. Readers that stood before them must begin anew. */
export async function forgetEvents(store: Store, olderThanMs: number, maxEvents: number): Promise<void> {
  await store.change(async (em) => {
    const [last]: { txid: string; seq: string }[] = await em.execute(
      `select txid, seq from ((select txid, seq from vm_event where create_time < now() - ? * interval '1 millisecond'
           order by txid desc, seq desc limit 1)
         union all (select txid, seq from vm_event order by txid desc, seq desc offset ? limit 1)) as old
       order by txid desc, seq desc limit 1`,
      [olderThanMs, maxEvents],
    );
    if (!last) return;
    // The floor first: whoever reads the events that are left learns that some are not.
    await em.execute("update vm_event_floor set txid = ?::text::xid8, seq = ? where (txid, seq) < (?::text::xid8, ?)", [
      ...[last.txid, last.seq, last.txid, last.seq],
    ]);
    await em.execute("delete from vm_event where (txid, seq) <= (?::text::xid8, ?)", [last.txid, last.seq]);
  });
}
