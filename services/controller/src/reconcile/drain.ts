// Nodes that are drained: their VMs are stopped, and those that may move begin anew elsewhere once they have stopped.
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { Assignment } from "@pitwall/proto/pitwall/v1/link.ts";
import { systemClock, type Clock, type Log } from "@pitwall/runtime";
import { systemItself, type Change, type Mutations } from "../mutation/mutations.ts";
import { drainOf, up } from "../nodes/drain-plan.ts";
import type { NodeLinks } from "../nodes/links.ts";
import type { NodeNews } from "../nodes/node-news.ts";
import type { VmRow } from "../store/entities.ts";
import type { Store } from "../store/store.ts";
import { lockVm } from "../store/vm-rows.ts";
import { noteAsked } from "../vm/asked.ts";
import { deletionOf } from "../vm/assignments.ts";
import { follow } from "../vm/lifecycle.ts";
import { beginAnew } from "../vm/move.ts";
import type { Placer } from "../vm/placer.ts";
import type { Recorder } from "../vm/recorder.ts";
import { rowState } from "../vm/state.ts";
import { placeFor } from "./node-loss.ts";
import { isNotParked, wasParked, type Guarded, type Parking } from "./parking.ts";

const batch = 500;
/** How soon room is sought again for a VM that found none. */
const seekEveryMs = 5_000;

export interface DrainParts {
  readonly store: Store;
  readonly mutations: Mutations;
  readonly recorder: Recorder;
  readonly placer: Placer;
  readonly parking: Parking;
  readonly links: Pick<NodeLinks, "of">;
  readonly news: Pick<NodeNews, "tell">;
  readonly log: Log;
  readonly clock?: Clock;
}

/** What makes one round of it after the other. */
export function drainRounds(parts: DrainParts): () => Promise<void> {
  /** VMs that stay for want of room, and until when that is taken for granted; by the monotonic clock. */
  const staying = new Map<string, number>();
  return () => drainRound(parts, staying);
}

/** A VM that is to be suspended still has a VMM until it is. */
const onItsWay = `desired = ${Desired.DESIRED_SUSPENDED} and phase not in (${[Phase.PHASE_SUSPENDED, Phase.PHASE_STOPPED, Phase.PHASE_FAILED].join(", ")})`;
async function drainRound(parts: DrainParts, staying: Map<string, number>): Promise<void> {
  const { store, mutations, parking, clock = systemClock } = parts;
  const nowMs = clock.monotonicMs();
  for (const [id, untilMs] of staying) if (untilMs <= nowMs) staying.delete(id);
  // Done is a drain when nothing wants to run there any more; what cannot move stays.
  const found: (Guarded & { readonly is_vm: boolean })[] = await store.read().execute(
    `(select vm.id, true as is_vm, ${wasParked} from vm join node on node.id = node_id
       where (node.draining and vm.desired in (?, ?) or vm.moving) and ${isNotParked} order by vm.id limit ?)
     union all
     select id, false, false from node where draining and not exists (select from vm where node_id = node.id and (desired in (?, ?) or moving or ${onItsWay}))`,
    [...up, batch, ...up],
  );
  const due = found.filter(({ is_vm }) => is_vm);
  const finished = found.filter(({ is_vm }) => !is_vm);
  const round = { ...parts, placer: parts.placer.round() };
  for (const vm of due) {
    if (staying.has(vm.id)) continue;
    await parking.guard(vm, async () => {
      const stays = await mutations.system("NodeDrain", (change) => step(round, change, vm.id));
      if (stays) staying.set(vm.id, nowMs + seekEveryMs);
    });
  }
  for (const { id } of finished) {
    await mutations.system("NodeDrained", async (change) => {
      const rows: unknown[] = await change.em.execute(
        `update node set draining = false, change_time = now() where id = ? and draining
           and not exists (select from vm where node_id = node.id and (desired in (?, ?) or moving or ${onItsWay})) returning 1`,
        [id, ...up],
      );
      if (rows.length === 0) return;
      await change.audit({ object: `node/${id}` });
      change.after(() => parts.news.tell());
    });
  }
}

/** Whether the VM stays for want of room. */
async function step(parts: DrainParts, change: Change, id: string): Promise<boolean> {
  const { recorder, placer } = parts;
  const row = await lockVm(change.em, id);
  if (!row) return false;
  const [node]: { draining: boolean }[] = await change.em.execute("select draining from node where id = ?", [row.nodeId]);
  const object = { object: `vm/${row.id}`, projectId: row.projectId };
  if (row.moving) {
    if (row.desired !== Desired.DESIRED_STOPPED) {
      row.moving = false; // its owner has said something else since
      await recorder.changed(change, row, { tellNode: false });
    } else if (node?.draining !== true) {
      await restart(parts, change, row); // the drain was called off
    } else if (row.observedGeneration === row.generation && (row.phase === Phase.PHASE_STOPPED || row.phase === Phase.PHASE_FAILED)) {
      const target = await placeFor(placer, change, row);
      if (target === undefined) {
        await restart(parts, change, row);
        return false;
      }
      follow(rowState(row), "begins anew", row.name);
      const old = deletionOf(row);
      const from = row.nodeId;
      row.generation += 1n;
      beginAnew(row, target);
      await recorder.changed(change, row, { tellNode: true });
      await change.audit({ ...object, generation: row.generation, detail: { name: row.name, from, to: target } });
      change.after(() => void tellOld(parts, from, old));
    }
    return false;
  }
  const becomes = drainOf(row);
  if (node?.draining !== true || becomes === "none") return false;
  const moves = becomes === "move";
  if (moves && (await placeFor(placer, change, row)) === undefined) return true; // until there is room
  follow(rowState(row), "drained", row.name);
  row.desired = Desired.DESIRED_STOPPED;
  row.generation += 1n;
  row.moving = moves;
  await noteAsked(change.em, row, systemItself, "NODE_DRAIN");
  await recorder.changed(change, row, { tellNode: true });
  await change.audit({ ...object, generation: row.generation, detail: { name: row.name, moving: moves } });
  return false;
}

async function restart({ recorder }: DrainParts, change: Change, row: VmRow): Promise<void> {
  follow(rowState(row), "drain called off", row.name);
  row.desired = Desired.DESIRED_RUNNING;
  row.generation += 1n;
  row.restartGeneration = row.generation;
  row.moving = false;
  row.asked = null;
  await recorder.changed(change, row, { tellNode: true });
  await change.audit({
    object: `vm/${row.id}`,
    projectId: row.projectId,
    generation: row.generation,
    detail: { name: row.name, moving: false },
  });
}

/** What is left of a VM on the node that it has moved from. Its next hello brings that about too. */
async function tellOld({ links, log }: DrainParts, nodeId: string, deletion: Assignment): Promise<void> {
  try {
    await (await links.of(nodeId))?.assign([deletion]);
  } catch (error) {
    log.info("a node will be told at its next hello what it no longer has", { node: nodeId, error });
  }
}
