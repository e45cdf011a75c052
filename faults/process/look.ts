// A look at a world: all that its database says, in one statement and so of one moment, then what its nodes keep and run.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "@pitwall/runtime";
import { NodeState } from "@pitwall/sdk";
import type { FinalVm, History, RowWrite, Run, SessionLoss } from "../observer/history.ts";
import { isForeignTo } from "../checkers/checkers.ts";
import { areSettled } from "../observer/settled.ts";
import type { Clients } from "./clients.ts";
import type { Installation } from "./installation.ts";
import { runsOf, type SeenVmm } from "./scanner.ts";
import { nodeCount } from "./schedule.ts";

const everyMs = 250;
/** Leases that a starved machine let run out are had again, and what they cost is made good, some time after. */
const starvationLingersMs = 10_000;
/** For a machine that does not come to itself. */
const maxPutOffMs = 120_000;

export interface Look extends Pick<History, "writes" | "losses" | "audited" | "events" | "final" | "stored"> {
  readonly vmms: readonly SeenVmm[];
}

/** Words of the database, in the judges' names; events are those of the VMs of this run. */
const everything = `select
  (select coalesce(json_agg(json_build_object('vm', id, 'node', node_id, 'desired', desired, 'phase', phase, 'reason', reason,
     'generation', generation, 'observed', observed_generation, 'revision', revision)), '[]') from vm) as final,
  (select coalesce(json_agg(json_build_object('vm', vm_id, 'revision', revision) order by vm_id, revision), '[]') from vm_event
     where vm_id in (select vm from seen.vm_write)) as events,
  (select coalesce(json_agg(json_build_object('seq', seq, 'atMs', at_ms, 'op', op, 'vm', vm, 'node', node, 'epoch', epoch,
     'generation', generation, 'observed', observed, 'desired', desired, 'phase', phase, 'cpuMillis', cpu_millis, 'memBytes', mem_bytes,
     'request', request) order by seq), '[]') from seen.vm_write) as writes,
  (select coalesce(json_agg(json_build_object('node', node, 'lostMs', lost_ms, 'renewedMs', renewed_ms)), '[]') from seen.loss) as losses,
  (select coalesce(json_agg(request_id), '[]') from audit_entry where request_id is not null) as audited`;

interface Said {
  readonly final: readonly FinalVm[];
  readonly events: History["events"];
  readonly writes: readonly RowWrite[];
  readonly losses: readonly SessionLoss[];
  readonly audited: readonly string[];
}

async function look(installation: Installation): Promise<Look> {
  const [said] = await installation.database.query<Said>(everything);
  if (!said) throw new Error("the database said nothing");
  const stored = await storedOf(installation);
  return { ...said, stored, vmms: installation.scanner.vmms.map((vmm) => ({ ...vmm })) };
}

/**
 * The world as soon as all is as it should be, so that waiting longer shows nothing more; or, when the time is up, as it is then. Time in which
 * the machine lets nobody run does not count.
 */
export async function calmLook(installation: Installation, clients: Clients, limitMs: number): Promise<{ seen: Look; isCalm: boolean }> {
  const begunMs = systemClock.monotonicMs();
  let putOffMs = 0;
  for (let nowMs = begunMs; ;) {
    const seen = await look(installation);
    if (await isCalm(seen, installation, clients).catch(() => false)) return { seen, isCalm: true };
    if (nowMs > begunMs + limitMs + putOffMs) return { seen, isCalm: false };
    await systemClock.sleep(everyMs);
    const isStarved = Date.now() - installation.scanner.starvedAtMs < starvationLingersMs;
    const beforeMs = nowMs;
    nowMs = systemClock.monotonicMs();
    if (isStarved) putOffMs = Math.min(maxPutOffMs, putOffMs + nowMs - beforeMs);
  }
}

async function isCalm({ final, events, stored, vmms }: Look, installation: Installation, clients: Clients): Promise<boolean> {
  const { services, operator, nodeIds } = installation;
  const living = vmms.filter(({ toMs }) => toMs === undefined).map(({ vm, node }) => ({ vm, node: nodeIds[node] }));
  if (!areSettled(final, living) || stored.some(isForeignTo(final)) || clients.underWay > 0) return false;
  const shown = new Set(clients.watched.map(({ vm, revision }) => `${vm}/${revision}`));
  if (!events.every(({ vm, revision }) => shown.has(`${vm}/${revision}`)) || !services.every(({ isUp }) => isUp)) return false;
  const nodes = await operator.listNodes();
  return nodes.filter(({ state }) => state === NodeState.NODE_STATE_READY).length === nodeCount;
}

/** As the judges take them. */
export function runsIn({ vmms }: Look, { nodeIds }: Installation, originMs: number): Run[] {
  return runsOf(vmms, nodeIds, originMs);
}

/** VMs' folders on nodes. */
export async function storedOf({ dir, nodeIds }: Installation): Promise<{ node: string; vm: string }[]> {
  const all = await Promise.all(
    nodeIds.map(async (node, index) => (await readdir(join(dir, `node-${index}`, "vms")).catch(() => [])).map((vm) => ({ node, vm }))),
  );
  return all.flat();
}
