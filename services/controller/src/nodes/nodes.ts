// Nodes: their rows, what is placed on them, and whether they are there.
import { Driver, NodeState, type Node } from "@pitwall/proto/pitwall/v1/node.ts";
import type { Hello } from "@pitwall/proto/pitwall/v1/link.ts";
import { isUuid, PitwallError } from "@pitwall/runtime";
import { heedingLabel } from "../placement/heeding.ts";
import type { Amounts, Candidate } from "../placement/place.ts";
import type { NodeFacts } from "../placement/wanted.ts";
import { NodeEntity, type NodeRow } from "../store/entities.ts";
import type { EntityManager, Store } from "../store/store.ts";
import { gather } from "./gather.ts";
import { sayingCapability } from "./held-images.ts";
import type { NodeLife } from "./liveness.ts";
import { beginSessions, seenSessions, type Begun, type Holder, type SeenSession } from "./session-rows.ts";
import type { Session, Sessions } from "./sessions.ts";

const helloBatch = 500;
const stateOf: Readonly<Record<NodeLife, NodeState>> = {
  ready: NodeState.NODE_STATE_READY,
  unreachable: NodeState.NODE_STATE_UNREACHABLE,
  lost: NodeState.NODE_STATE_LOST,
};

interface Load extends Amounts {
  readonly vmCount: number;
}
const noLoad: Load = { cpuMillis: 0n, memBytes: 0n, diskBytes: 0n, vmCount: 0 };

/** What each node's VMs take, as the database adds it up with every change. A stopped VM takes its disk only. */
async function loads(em: EntityManager, nodeId?: string): Promise<ReadonlyMap<string, Load>> {
  const rows: { node_id: string; cpu_millis: string; mem_bytes: string; disk_bytes: string; vm_count: number }[] = await em.execute(
    `select node_id, cpu_millis, mem_bytes, disk_bytes, vm_count from node_allocation ${nodeId === undefined ? "" : "where node_id = ?"}`,
    nodeId === undefined ? [] : [nodeId],
  );
  return new Map(
    rows.map(({ node_id, cpu_millis, mem_bytes, disk_bytes, vm_count }) => [
      node_id,
      { cpuMillis: BigInt(cpu_millis), memBytes: BigInt(mem_bytes), diskBytes: BigInt(disk_bytes), vmCount: vm_count },
    ]),
  );
}

export interface NodeName {
  readonly id: string;
  readonly name: string;
}

interface FactsRow {
  readonly id: string;
  readonly name: string;
  readonly cordoned: boolean;
  readonly cpu_millis: string;
  readonly mem_bytes: string;
  readonly disk_bytes: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly has_subnet: boolean;
  /** What it says that it holds; null: it has not said. */
  readonly digests: readonly string[] | null;
}

const amounts = ({ cpuMillis, memBytes, diskBytes }: Amounts): Amounts => ({ cpuMillis, memBytes, diskBytes });

export interface NodesParts {
  readonly store: Store;
  readonly sessions: Sessions;
  /** This controller. */
  readonly holder: () => Holder;
  readonly leaseMs: number;
}

export class Nodes {
  readonly #store: Store;
  readonly #sessions: Sessions;
  readonly #begin: (item: { readonly nodeId: string; readonly hello: Hello }) => Promise<Begun | undefined>;

  constructor({ store, sessions, holder, leaseMs }: NodesParts) {
    this.#store = store;
    this.#sessions = sessions;
    this.#begin = gather(async (hellos) => {
      const begun = await beginSessions(store, holder(), hellos, leaseMs);
      return hellos.map(({ nodeId }) => begun.get(nodeId));
    }, helloBatch);
  }

  /** All nodes as the scheduler sees them, and their names by id. */
  async facts(em: EntityManager): Promise<{ readonly facts: readonly NodeFacts[]; readonly names: ReadonlyMap<string, string> }> {
    // Rows as they are: entities of some thousand nodes would cost more than all else of a look.
    const rows: FactsRow[] = await em.execute(
      `select id, name, cordoned, cpu_millis, mem_bytes, disk_bytes, labels, node_subnet.node_id is not null as has_subnet, digests
         from node left join node_subnet on node_subnet.node_id = node.id left join node_images on node_images.node_id = node.id`,
    );
    const seen = await seenSessions(em);
    const images: { node_id: string; image_digest: string }[] = await em.execute(
      "select distinct node_id, image_digest from vm order by 1, 2",
    );
    const byNode = Map.groupBy(images, ({ node_id }) => node_id);
    const imagesOf = ({ id, digests }: FactsRow): readonly string[] => {
      if (digests && (seen.get(id)?.capability ?? 0) >= sayingCapability) return digests;
      return (byNode.get(id) ?? []).map(({ image_digest }) => image_digest);
    };
    const facts = rows.map((row) => ({
      id: row.id,
      ready: seen.get(row.id)?.life === "ready",
      cordoned: row.cordoned,
      capacity: { cpuMillis: Number(row.cpu_millis), memBytes: Number(row.mem_bytes), diskBytes: Number(row.disk_bytes) },
      labels: { ...row.labels, ...heedingLabel({ capability: seen.get(row.id)?.capability ?? 0, hasSubnet: row.has_subnet }) },
      images: imagesOf(row),
    }));
    return { facts, names: new Map(rows.map(({ id, name }) => [id, name])) };
  }

  /** One of them; undefined: it is gone. */
  async candidate(em: EntityManager, nodeId: string): Promise<Candidate | undefined> {
    return (await this.candidates(em, nodeId))[0];
  }

  /** All nodes as placement sees them. Others may place VMs meanwhile: the database refuses what does not fit. */
  async candidates(em: EntityManager, nodeId?: string): Promise<Candidate[]> {
    const rows = await em.find(NodeEntity, nodeId === undefined ? {} : { id: nodeId });
    const [load, seen] = [await loads(em, nodeId), await seenSessions(em, nodeId)];
    return rows.map((row) => ({
      id: row.id,
      ready: seen.get(row.id)?.life === "ready" && !row.cordoned,
      capacity: amounts(row),
      allocated: load.get(row.id) ?? noLoad,
    }));
  }

  /**
   * A node has said hello: its next session, held here. Throws `denied` for a node that was removed, `exists` while another
   * agent that has its identity is heard of: what that one has would be taken for lost, and be started a second time by this one.
   */
  async begin(nodeId: string, hello: Hello): Promise<{ readonly session: Session; readonly saysOtherLabels: boolean }> {
    const begun = await this.#begin({ nodeId, hello });
    if (!begun && (await this.#isThere(nodeId))) {
      const message =
        "another agent with this node's identity has a link, from another host or another folder: two cannot be one node; end one of them, and let it join by a name of its own";
      throw new PitwallError("exists", message, { reason: "NODE_TWICE" });
    }
    if (!begun) throw new PitwallError("denied", "this node is not known: it was removed or revoked", { reason: "NODE_UNKNOWN" });
    return { session: this.#sessions.begin(nodeId, begun.epoch, hello.capability), saysOtherLabels: begun.saysOtherLabels };
  }

  async #isThere(nodeId: string): Promise<boolean> {
    const rows: unknown[] = await this.#store.read().execute("select from node where id = ? and revoke_time is null", [nodeId]);
    return rows.length > 0;
  }

  /** Throws `not-found`. */
  async get(nameOrId: string, em = this.#store.read()): Promise<Node> {
    const [row] = await em.find(
      NodeEntity,
      { $or: [{ name: nameOrId }, ...(isUuid(nameOrId) ? [{ id: nameOrId }] : [])] },
      { refresh: true },
    );
    const [found] = row ? await this.#describe(em, [row], row.id) : [];
    if (!found)
      throw new PitwallError("not-found", `there is no node ${JSON.stringify(nameOrId.slice(0, 80))}`, {
        reason: "NODE_NOT_FOUND",
        field: "node",
      });
    return found;
  }

  /** By name. */
  async list(em = this.#store.read()): Promise<Node[]> {
    return this.#describe(em, await em.findAll(NodeEntity, { orderBy: { name: "asc" }, refresh: true }));
  }

  /** Of all nodes, by name: what somebody needs who asks each of them, and no more. */
  async names(): Promise<readonly NodeName[]> {
    return this.#store.read().execute("select id, name from node order by name");
  }

  /** `nodeId`: the only one of them. */
  async #describe(em: EntityManager, rows: readonly NodeRow[], nodeId?: string): Promise<Node[]> {
    const [load, seen] = [await loads(em, nodeId), await seenSessions(em, nodeId)];
    return rows.map((row) => toNode(row, load.get(row.id) ?? noLoad, seen.get(row.id)));
  }
}

function toNode(row: NodeRow, load: Load, session: SeenSession | undefined): Node {
  return {
    id: row.id,
    name: row.name,
    state: stateOf[session?.life ?? "unreachable"],
    sessionEpoch: session?.epoch ?? 0n,
    capacity: amounts(row),
    allocated: amounts(load),
    drivers: row.drivers.map((driver) => Driver.fromJSON(driver)),
    labels: row.labels,
    agentVersion: row.agentVersion,
    createTime: row.createTime,
    lastHeartbeatTime: session?.renewTime,
    vmCount: load.vmCount,
    cordoned: row.cordoned,
    draining: row.draining,
    revoked: row.revokeTime !== null,
    leaseExpireTime: session?.life === "ready" ? session.leaseExpireTime : undefined,
  };
}
