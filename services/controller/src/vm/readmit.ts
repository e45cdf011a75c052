// What a VM that is to run again needs: its node, with room for it; or, where that is lost and its owner allows it, another one.
import { PitwallError } from "@pitwall/runtime";
import type { Change } from "../mutation/mutations.ts";
import { planStale } from "../mutation/plan-token.ts";
import type { Nodes } from "../nodes/nodes.ts";
import { hasRoom, noRoom } from "../placement/place.ts";
import type { VmRow } from "../store/entities.ts";
import type { EntityManager } from "../store/store.ts";
import { anewRequest, beginAnew, mayMove, wasEnded } from "./move.ts";
import type { Placed, Placer } from "./placer.ts";
import { resourcesOf } from "./wanted.ts";

interface Parts {
  readonly nodes: Pick<Nodes, "candidate">;
  readonly placer: Pick<Placer, "place">;
}

interface Home {
  readonly name: string;
  readonly is_there: boolean;
  readonly draining: boolean;
  readonly is_lost: boolean;
  readonly is_fenced: boolean;
}

/**
 * Undefined: on its node, and if that is away, once it is back: the row's reason then says so. Otherwise the node on which the VM begins anew:
 * the row is as it is to be. Throws `state` (NODE_LOST) when there is neither, and what placement throws.
 */
export async function readmit({ nodes, placer }: Parts, change: Change, row: VmRow): Promise<Placed | undefined> {
  const home = await homeOf(change.em, row.nodeId);
  if (home?.is_lost === true) {
    if (!mayMove(row) || !wasEnded(row, home.is_fenced)) throw nodeLost(row, home);
    if (change.plan?.nodeId === "") throw planStale(`the node ${home.name} of the VM ${row.name} is lost`);
    const placed = await placer.place(change, anewRequest(row));
    beginAnew(row, placed.id);
    return placed;
  }
  if (change.plan && change.plan.nodeId !== "") throw planStale(`the VM ${row.name}'s own node is back`);
  // A stopped VM gave its CPU and memory back; its disk, and so the VM, stays where it is.
  const node = await nodes.candidate(change.em, row.nodeId);
  const takes = resourcesOf(row);
  const grows = takes.cpuMillis === 0 && takes.memBytes === 0;
  const wanted = { cpuMillis: grows ? BigInt(row.cpuMillis) : 0n, memBytes: grows ? row.memBytes : 0n, diskBytes: 0n };
  if (node && !hasRoom(node, wanted)) throw noRoom([node], wanted);
  if (home?.is_there === false)
    Object.assign(row, {
      reason: "NODE_UNREACHABLE",
      message: `its node ${home.name} has no link to a controller: it starts once that has`,
    });
  return undefined;
}

/** Throws `unavailable` for a VM on a node that is away or is being emptied: nobody who only comes by may have it begin anew elsewhere. */
export async function needNode(em: EntityManager, { name, nodeId }: VmRow): Promise<void> {
  const home = await homeOf(em, nodeId);
  if (home?.is_there === true && !home.draining) return;
  throw new PitwallError("unavailable", `the VM ${name} is suspended on a node that is away or is being emptied`, { reason: "NODE_AWAY" });
}

/** As it stays until the end of the change: a hello that comes meanwhile waits, and what is decided here, its node is told then. */
async function homeOf(em: EntityManager, nodeId: string): Promise<Home | undefined> {
  const [home]: Home[] = await em.execute(
    `select name, draining, lost_time is not null as is_lost, end_reason is not distinct from 'fenced' as is_fenced,
       end_time is null and lost_time is null and lease_expire_time > now() as is_there
       from node join node_session s on node_id = node.id where node.id = ? for key share of s`,
    [nodeId],
  );
  return home;
}

function nodeLost(row: VmRow, { name, is_fenced }: Home): PitwallError {
  const { name: vm } = row;
  const why = is_fenced ? "an administrator said that it is switched off" : "it has been away for too long";
  const help = mayMove(row)
    ? `it was lost before it heard that the VM may be rescheduled, and may run it still: start it when the node is back, or, once it is switched off for certain, after \`pitwall nodes fence ${name}\``
    : `its disk is there: start it when the node is back; or \`pitwall update ${vm} --reschedule\` allows that it begins anew elsewhere with an empty disk, and then start it`;
  const message = `the VM ${vm} cannot start: its node ${name} is lost (${why}); ${help}`;
  return new PitwallError("state", message, { reason: "NODE_LOST", metadata: { node: name, node_state: "LOST" } });
}
