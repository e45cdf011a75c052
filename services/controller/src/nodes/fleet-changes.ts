// What administrators do to nodes. The rows say what is wanted; reconcile/ brings it about.
import {
  NodeServiceDefinition,
  type CordonNodeRequest,
  type DeleteNodeRequest,
  type DrainNodeRequest,
  type DrainStep,
  type FenceNodeRequest,
  type Node,
  type RevokeNodeRequest,
  type UncordonNodeRequest,
} from "@pitwall/proto/pitwall/v1/node.ts";
import { PitwallError } from "@pitwall/runtime";
import type { Change, Mutations } from "../mutation/mutations.ts";
import type { Principal } from "../projects/principal.ts";
import { VmEntity } from "../store/entities.ts";
import type { EntityManager } from "../store/store.ts";
import { anewRequest } from "../vm/move.ts";
import type { Placer } from "../vm/placer.ts";
import { drainPlan, revocationPlan } from "./drain-plan.ts";
import type { NodeNews } from "./node-news.ts";
import type { Nodes } from "./nodes.ts";
import { seenSessions } from "./session-rows.ts";

const service = NodeServiceDefinition;
const { cordonNode, uncordonNode, drainNode, fenceNode, deleteNode, revokeNode } = NodeServiceDefinition.methods;

export interface FleetParts {
  readonly mutations: Mutations;
  readonly nodes: Nodes;
  readonly placer: Pick<Placer, "rehearse">;
  readonly news: Pick<NodeNews, "tell">;
}

export class FleetChanges {
  readonly #parts: FleetParts;

  constructor(parts: FleetParts) {
    this.#parts = parts;
  }

  /** All throw `not-found`. */
  cordon(caller: Principal, request: CordonNodeRequest): Promise<{ node: Node | undefined }> {
    const work = async (change: Change): Promise<{ node: Node }> => ({ node: await this.#mark(change, request.node, { cordoned: true }) });
    return this.#parts.mutations.run({ service, method: cordonNode, caller, request, work });
  }

  /** Also ends a drain. */
  uncordon(caller: Principal, request: UncordonNodeRequest): Promise<{ node: Node | undefined }> {
    const work = async (change: Change): Promise<{ node: Node }> => ({
      node: await this.#mark(change, request.node, { cordoned: false, draining: false }),
    });
    return this.#parts.mutations.run({ service, method: uncordonNode, caller, request, work });
  }

  /** The steps are what would be done now; what fits where is decided anew for each VM when its turn comes. */
  drain(caller: Principal, request: DrainNodeRequest): Promise<{ node: Node | undefined; steps: DrainStep[] }> {
    const work = async (change: Change): Promise<{ node: Node; steps: DrainStep[] }> => {
      const { id } = await this.#lock(change.em, request.node);
      const steps = await this.#planned(change.em, id);
      return { node: await this.#mark(change, request.node, { cordoned: true, draining: true }), steps };
    };
    return this.#parts.mutations.run({ service, method: drainNode, caller, request, work });
  }

  /** Throws `state` for a node whose link is up: it is not switched off. */
  fence(caller: Principal, request: FenceNodeRequest): Promise<{ node: Node | undefined }> {
    const work = async (change: Change): Promise<{ node: Node }> => {
      const { id, name } = await this.#lock(change.em, request.node);
      const session = (await seenSessions(change.em, id)).get(id);
      if (session?.life === "ready") {
        const message = `the node ${name} has a link, so it is not switched off: drain it, or switch it off first`;
        throw new PitwallError("state", message, { reason: "NODE_ALIVE" });
      }
      await change.em.execute(
        `update node_session set lost_time = coalesce(lost_time, now()), end_time = coalesce(end_time, now()), end_reason = 'fenced',
           change_time = now() where node_id = ?`,
        [id],
      );
      return { node: await this.#mark(change, request.node, {}) };
    };
    return this.#parts.mutations.run({ service, method: fenceNode, caller, request, work });
  }

  /**
   * Its certificate is refused from now on, and its link is cut: with an epoch of its own, so that nothing counts any more that it has still to
   * say. What runs there counts as on any node that is away: nothing begins elsewhere before lease and fence have had their time.
   */
  revoke(caller: Principal, request: RevokeNodeRequest): Promise<{ node: Node | undefined; steps: DrainStep[] }> {
    const work = async (change: Change): Promise<{ node: Node; steps: DrainStep[] }> => {
      const { id } = await this.#lock(change.em, request.node);
      const steps = revocationPlan(await change.em.find(VmEntity, { nodeId: id }, { orderBy: { name: "asc" } }));
      await change.em.execute("update node set revoke_time = coalesce(revoke_time, now()) where id = ?", [id]);
      await change.em.execute(
        `update node_session set epoch = epoch + 1, end_time = coalesce(end_time, now()), change_time = now(),
           end_reason = case when end_reason = 'fenced' then end_reason else 'revoked' end where node_id = ?`,
        [id],
      );
      return { node: await this.#mark(change, request.node, { cordoned: true }), steps };
    };
    return this.#parts.mutations.run({ service, method: revokeNode, caller, request, work });
  }

  /** Throws `state` while VMs are placed on it. */
  delete(caller: Principal, request: DeleteNodeRequest): Promise<Record<never, never>> {
    const work = async (change: Change): Promise<Record<never, never>> => {
      const { id, name } = await this.#lock(change.em, request.node);
      const [row]: { count: number }[] = await change.em.execute("select count(*)::int as count from vm where node_id = ?", [id]);
      const count = row?.count ?? 0;
      if (count > 0) {
        const message = `${count} VM${count === 1 ? " is" : "s are"} placed on the node ${name}: drain it, and remove what stays; of a node that is gone for good, say so with \`pitwall nodes fence\` first`;
        throw new PitwallError("state", message, { reason: "NODE_IN_USE" });
      }
      await change.em.execute("delete from node_session where node_id = ?", [id]);
      await change.em.execute("delete from node_allocation where node_id = ?", [id]);
      await change.em.execute("delete from node where id = ?", [id]);
      await change.em.execute("delete from member where id = ?", [id]);
      await change.audit({ object: `node/${id}`, detail: { name } });
      change.after(() => this.#parts.news.tell());
      return {};
    };
    return this.#parts.mutations.run({ service, method: deleteNode, caller, request, work });
  }

  async #mark(change: Change, reference: string, { cordoned, draining }: { cordoned?: boolean; draining?: boolean }): Promise<Node> {
    const { id, name } = await this.#lock(change.em, reference);
    await change.em.execute(
      `update node set cordoned = coalesce(?::boolean, cordoned), draining = coalesce(?::boolean, draining), change_time = now() where id = ?`,
      [cordoned ?? null, draining ?? null, id],
    );
    await change.audit({ object: `node/${id}`, detail: { name } });
    change.after(() => this.#parts.news.tell());
    return this.#parts.nodes.get(id, change.em);
  }

  /** The node, until the end of the change nobody else's. */
  async #lock(em: EntityManager, reference: string): Promise<{ readonly id: string; readonly name: string }> {
    const { id, name } = await this.#parts.nodes.get(reference, em);
    const rows: unknown[] = await em.execute("select from node where id = ? for update", [id]);
    if (rows.length === 0) throw new PitwallError("race", `the node ${name} was removed at this moment`, { reason: "NODE_GONE" });
    return { id, name };
  }

  /** As {@link drainPlan}, by name. */
  async #planned(em: EntityManager, nodeId: string): Promise<DrainStep[]> {
    const rows = await em.find(VmEntity, { nodeId }, { orderBy: { id: "asc" } });
    const placeNext = await this.#parts.placer.rehearse(nodeId);
    const steps = drainPlan(rows, (row) => placeNext(anewRequest(row)));
    return steps.toSorted((one, other) => (one.vmName < other.vmName ? -1 : 1));
  }
}
