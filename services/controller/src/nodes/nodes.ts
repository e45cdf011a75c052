// Nodes: their rows, what is placed on them, and whether they are there.
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { Driver, NodeState, type Node } from "@pitwall/proto/pitwall/v1/node.ts";
import type { Hello } from "@pitwall/proto/pitwall/v1/link.ts";
import { PitwallError } from "@pitwall/runtime";
import type { Amounts, Candidate } from "../placement/place.ts";
import { NodeEntity, type NodeRow } from "../store/entities.ts";
import type { EntityManager, Store } from "../store/store.ts";
import type { Session, Sessions } from "./sessions.ts";

interface Load extends Amounts {
  readonly vmCount: number;
}
const noLoad: Load = { cpuMillis: 0n, memBytes: 0n, diskBytes: 0n, vmCount: 0 };

/** What each node's VMs take. A stopped VM takes its disk only. */
async function loads(em: EntityManager): Promise<ReadonlyMap<string, Load>> {
  const idle = `desired = ${Desired.DESIRED_STOPPED} and phase in (${Phase.PHASE_STOPPED}, ${Phase.PHASE_FAILED})`;
  const rows: { node_id: string; cpu: string; mem: string; disk: string; count: string }[] = await em.execute(
    `select node_id, count(*) as count, sum(disk_bytes) as disk,
       sum(case when ${idle} then 0 else cpu_millis end) as cpu, sum(case when ${idle} then 0 else mem_bytes end) as mem
     from vm group by node_id`,
  );
  return new Map(
    rows.map(({ node_id, cpu, mem, disk, count }) => [
      node_id,
      { cpuMillis: BigInt(cpu), memBytes: BigInt(mem), diskBytes: BigInt(disk), vmCount: Number(count) },
    ]),
  );
}

const amounts = ({ cpuMillis, memBytes, diskBytes }: Amounts): Amounts => ({ cpuMillis, memBytes, diskBytes });

export class Nodes {
  readonly #store: Store;
  readonly #sessions: Sessions;

  constructor(store: Store, sessions: Sessions) {
    this.#store = store;
    this.#sessions = sessions;
  }

  /** All nodes as placement sees them. Call inside a change, so that nothing is placed in between. */
  async candidates(em: EntityManager): Promise<Candidate[]> {
    const [rows, load] = await Promise.all([em.findAll(NodeEntity), loads(em)]);
    return rows.map((row) => ({
      id: row.id,
      ready: this.#sessions.get(row.id) !== undefined,
      capacity: amounts(row),
      allocated: load.get(row.id) ?? noLoad,
    }));
  }

  /** A node has said hello: its next session. Throws `denied` for a node that was removed. */
  async begin(nodeId: string, hello: Hello): Promise<Session> {
    const epoch = await this.#store.change(async (em) => {
      const row = await em.findOne(NodeEntity, { id: nodeId });
      if (!row) throw new PitwallError("denied", "this node is not known", { reason: "NODE_UNKNOWN" });
      row.sessionEpoch += 1n;
      row.cpuMillis = hello.capacity?.cpuMillis ?? 0n;
      row.memBytes = hello.capacity?.memBytes ?? 0n;
      row.diskBytes = hello.capacity?.diskBytes ?? 0n;
      row.drivers = hello.drivers.map((driver) => Driver.toJSON(driver));
      row.labels = hello.labels;
      row.agentVersion = hello.agentVersion;
      row.lastHeartbeatTime = new Date();
      return row.sessionEpoch;
    });
    return this.#sessions.begin(nodeId, epoch, hello.capability);
  }

  async keepHeartbeat({ nodeId, lastHeartbeat }: Session): Promise<void> {
    await this.#store.change((em) => em.nativeUpdate(NodeEntity, { id: nodeId }, { lastHeartbeatTime: lastHeartbeat }));
  }

  /** Throws `not-found`. */
  async get(nameOrId: string): Promise<Node> {
    const nodes = await this.list();
    const found = nodes.find(({ id, name }) => id === nameOrId || name === nameOrId);
    if (!found)
      throw new PitwallError("not-found", `there is no node ${JSON.stringify(nameOrId.slice(0, 80))}`, {
        reason: "NODE_NOT_FOUND",
        field: "node",
      });
    return found;
  }

  /** By name. */
  async list(): Promise<Node[]> {
    const em = this.#store.read();
    const rows = await em.findAll(NodeEntity, { orderBy: { name: "asc" } });
    const load = await loads(em);
    return rows.map((row) => this.#toNode(row, load.get(row.id) ?? noLoad));
  }

  #toNode(row: NodeRow, load: Load): Node {
    const session = this.#sessions.get(row.id);
    return {
      id: row.id,
      name: row.name,
      state: session ? NodeState.NODE_STATE_READY : NodeState.NODE_STATE_UNREACHABLE,
      sessionEpoch: row.sessionEpoch,
      capacity: amounts(row),
      allocated: amounts(load),
      drivers: row.drivers.map((driver) => Driver.fromJSON(driver)),
      labels: row.labels,
      agentVersion: row.agentVersion,
      createTime: row.createTime,
      lastHeartbeatTime: session?.lastHeartbeat ?? row.lastHeartbeatTime ?? undefined,
      vmCount: load.vmCount,
      cordoned: false,
      draining: false,
      leaseExpireTime: undefined,
    };
  }
}
