// Nodes that are away: judged lost when nobody can doubt it, and what that means for their VMs.
//
// Any number of controllers may do this at once: each decision is made anew under the lock of the VM or of the session's row.
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError, type Failpoints, type Log } from "@pitwall/runtime";
import type { Change, Mutations } from "../mutation/mutations.ts";
import { mayJudge, type Patience } from "../nodes/liveness.ts";
import type { Leases } from "../nodes/leases.ts";
import type { NodeNews } from "../nodes/node-news.ts";
import type { VmRow } from "../store/entities.ts";
import type { Store } from "../store/store.ts";
import { lockVm } from "../store/vm-rows.ts";
import { follow } from "../vm/lifecycle.ts";
import { anewRequest, beginAnew, mayMove, wasEnded } from "../vm/move.ts";
import { StaleFleet, type Placer } from "../vm/placer.ts";
import type { Recorder } from "../vm/recorder.ts";
import { rowState } from "../vm/state.ts";
import { isNotParked, wasParked, type Guarded, type Parking } from "./parking.ts";

/** At most so many VMs in one round. */
const batch = 500;
const unreachable = { reason: "NODE_UNREACHABLE", message: "its node has no link to a controller; the VM may well be running" };
const held = { reason: "NODE_LOST", message: "its node is lost; the VM is there again when its node is" };
const untold = {
  reason: "NODE_LOST",
  message:
    "its node was lost before it heard that the VM may be rescheduled, and may run it still: the VM is there again when its node is; once that is switched off for certain, `pitwall nodes fence` has the VM begin anew",
};
const heldStill = { reason: "NODE_LOST", message: "its node is lost; what of the VM is still on it is known when it is back" };
/** What is asked for of VMs that stand still: they begin anew nowhere, as nothing of them would be there. */
const still = [Desired.DESIRED_PAUSED, Desired.DESIRED_SUSPENDED] as const;
const noRoomYet = { reason: "NODE_LOST", message: "its node is lost, and no other node has room for it: it is started as soon as one has" };

export interface LossParts {
  readonly store: Store;
  readonly mutations: Mutations;
  readonly recorder: Recorder;
  readonly placer: Placer;
  readonly parking: Parking;
  readonly leases: Pick<Leases, "steadyForMs">;
  readonly news: Pick<NodeNews, "tell">;
  readonly patience: Patience;
  readonly failpoints: Failpoints;
  readonly log: Log;
}

/** One round. */
export async function reconcileNodeLoss(parts: LossParts): Promise<void> {
  const found = await look(parts, mayJudge(parts.leases.steadyForMs, parts.patience));
  const due = found.filter((row) => row.id === null);
  for (const { node_id, epoch } of due) await judge(parts, node_id, epoch);
  const affected = (due.length === 0 ? found : await look(parts, false)).filter((row) => row.id !== null);
  const round = { ...parts, placer: parts.placer.round() };
  for (const vm of affected) {
    await parts.parking.guard(vm, async () => {
      const isMoved = await parts.mutations.system("NodeLost", (change) => settle(round, change, vm.id));
      if (isMoved) await parts.failpoints.at("reschedule.sched.committed", vm.id);
    });
  }
}

/** A session whose lease and fence have had their time, or a VM of a node that is away. One question: mostly there is neither. */
type Found = { readonly id: null; readonly node_id: string; readonly epoch: string } | (Guarded & { readonly node_id: null });

async function look({ store, patience }: LossParts, judges: boolean): Promise<Found[]> {
  const sessions = `select null as id, false as was_parked, node_id, epoch from node_session
     where lost_time is null and lease_expire_time + ? * interval '1 millisecond' < now()`;
  const vms = `select vm.id, ${wasParked}, null, null from vm join node_session s using (node_id)
     where (s.end_time is not null or s.lost_time is not null) and (s.lease_expire_time < now() or s.lost_time is not null)
       and (vm.desired = ? and (vm.phase not in (?, ?) or vm.reason = 'LEASE_LOST' or vm.restart_generation > vm.observed_generation)
              and (vm.reason not in ('NODE_LOST', 'NODE_UNREACHABLE') or s.lost_time is not null
                and (vm.reason <> 'NODE_LOST' or vm.spec->>'nodeLossPolicy' = 'NODE_LOSS_POLICY_RESCHEDULE'))
            or vm.desired in (?, ?) and vm.phase not in (?, ?) and vm.reason <> 'NODE_LOST'
              and (vm.reason <> 'NODE_UNREACHABLE' or s.lost_time is not null)
            or vm.desired = ? and s.end_reason = 'fenced')
       and ${isNotParked}
     order by vm.id limit ?`;
  const over = [Phase.PHASE_STOPPED, Phase.PHASE_FAILED];
  const ofVms = [Desired.DESIRED_RUNNING, ...over, ...still, ...over, Desired.DESIRED_DELETED, batch];
  const em = store.read();
  return judges ? em.execute(`${sessions} union all (${vms})`, [patience.fenceMs, ...ofVms]) : em.execute(vms, ofVms);
}

/** Marks a session as lost. */
async function judge({ mutations, news, patience, failpoints, log }: LossParts, node_id: string, epoch: string): Promise<void> {
  await mutations.system("NodeLost", async (change) => {
    // Once more under the row's lock: a renewal, or a hello, may have come first.
    const rows: unknown[] = await change.em.execute(
      `update node_session set lost_time = now(), end_time = coalesce(end_time, now()), change_time = now()
         where node_id = ? and epoch = ? and lost_time is null and lease_expire_time + ? * interval '1 millisecond' < now() returning 1`,
      [node_id, epoch, patience.fenceMs],
    );
    if (rows.length === 0) return;
    await change.audit({ object: `node/${node_id}`, detail: { session: epoch } });
    await failpoints.at("lease.lost.marked", node_id);
    change.after(() => {
      log.warn("a node is lost", { node: node_id, session: epoch });
      news.tell();
    });
  });
  await failpoints.at("lease.lost.committed", node_id);
}

/** Whether the VM begins anew elsewhere. */
async function settle({ recorder, placer, failpoints }: LossParts, change: Change, id: string): Promise<boolean> {
  const { em } = change;
  const row = await lockVm(em, id);
  if (!row) return false;
  // A hello that comes meanwhile waits: what is decided here, its node is told then.
  const [session]: { is_lost: boolean; is_fenced: boolean; is_away: boolean }[] = await em.execute(
    `select lost_time is not null as is_lost, end_reason = 'fenced' as is_fenced,
       end_time is not null and lease_expire_time < now() as is_away from node_session where node_id = ? for key share`,
    [row.nodeId],
  );
  if (!session) return false;
  const object = { object: `vm/${row.id}`, projectId: row.projectId };
  if (row.desired === Desired.DESIRED_DELETED) {
    if (!session.is_fenced) return false;
    follow(rowState(row), "removed", row.name);
    await recorder.removed(change, row);
    await change.audit({ ...object, detail: { name: row.name, removed: true } });
    return false;
  }
  if (!(session.is_lost || session.is_away)) return false;
  if (still.some((desired) => desired === row.desired)) {
    await saySo(recorder, change, row, session.is_lost ? heldStill : unreachable);
    return false;
  }
  if (row.desired !== Desired.DESIRED_RUNNING) return false;
  if (!session.is_lost || !mayMove(row) || !wasEnded(row, session.is_fenced)) {
    const words = !session.is_lost ? unreachable : mayMove(row) ? untold : held;
    // The words of `unreachable` may be those of whoever started it meanwhile.
    if (row.reason !== words.reason || (session.is_lost && row.message !== words.message))
      await recorder.changed(change, Object.assign(row, words), { tellNode: false });
    return false;
  }
  const node = await placeFor(placer, change, row);
  if (!node) {
    if (row.message !== noRoomYet.message) await recorder.changed(change, Object.assign(row, noRoomYet), { tellNode: false });
    return false;
  }
  follow(rowState(row), "begins anew", row.name);
  const from = row.nodeId;
  row.generation += 1n;
  beginAnew(row, node);
  await recorder.changed(change, row, { tellNode: true });
  await change.audit({ ...object, generation: row.generation, detail: { name: row.name, from, to: node, epoch: String(row.epoch) } });
  await failpoints.at("reschedule.sched.placed", row.id);
  return true;
}

async function saySo(recorder: Recorder, change: Change, row: VmRow, words: typeof held): Promise<void> {
  if (row.reason !== words.reason) await recorder.changed(change, Object.assign(row, words), { tellNode: false });
}

/** A node for a VM that begins anew; undefined: there is none at this moment. */
export async function placeFor(placer: Placer, change: Change, row: VmRow): Promise<string | undefined> {
  try {
    return (await placer.place(change, anewRequest(row))).id;
  } catch (error) {
    if (error instanceof PitwallError || error instanceof StaleFleet) return undefined;
    throw error;
  }
}
