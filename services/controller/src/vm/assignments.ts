// What a node is told of its VMs: whole and level-triggered.
import type { Assignment, Inventory, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired, Phase, VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { planted, sleepOrAbort, systemClock, type Clock, type Failpoints, type Log } from "@pitwall/runtime";
import type { Credentials } from "../credentials/credentials.ts";
import { gather } from "../nodes/gather.ts";
import type { Sessions } from "../nodes/sessions.ts";
import type { VmRow } from "../store/entities.ts";
import type { EntityManager, Store } from "../store/store.ts";
import { readVms } from "../store/vm-batch.ts";
import type { Feed } from "./feed.ts";
import { keysIn, keysOf } from "./own-keys.ts";
import { toAssignment } from "./wire.ts";

/** A VM that its node no longer has must not be made there anew, with an empty disk, before its owner has seen that. */
export const lostReason = "VM_LOST";

/** Nodes that say hello together are one question to the database. */
const nodesAtOnce = 500;
/** How often nodes are told again what they have not brought about. */
const repeatMs = 10_000;

/** A node, and what it says that it has. */
interface Asked {
  readonly nodeId: string;
  readonly inventory: Inventory;
}

export class Assignments {
  readonly #store: Store;
  readonly #credentials: Credentials;
  readonly #all = gather((asked: readonly Asked[]) => this.#allOf(asked), nodesAtOnce);

  constructor({ store, credentials }: { store: Store; credentials: Credentials }) {
    this.#store = store;
    this.#credentials = credentials;
  }

  /** All of a node, and the deletion of what it has and should not. */
  all(nodeId: string, inventory: Inventory): Promise<Assignment[]> {
    return this.#all({ nodeId, inventory });
  }

  async #allOf(asked: readonly Asked[]): Promise<Assignment[][]> {
    const em = this.#store.read();
    const rows = await readVms(
      em,
      "node_id",
      asked.map(({ nodeId }) => nodeId),
    );
    const nodes = new Map(rows.map(({ id, nodeId }) => [id, nodeId]));
    const byNode = Map.groupBy(await this.#assignmentsOf(em, rows), ({ vmId }) => nodes.get(vmId));
    return asked.map(({ nodeId, inventory }) => {
      const strays = inventory.vms.filter(({ vmId, phase }) => nodes.get(vmId) !== nodeId && phase !== Phase.PHASE_GONE);
      return [...(byNode.get(nodeId) ?? []), ...strays.map(deletion)];
    });
  }

  /** What nodes that satisfy `isMeant` have not yet brought about, by node. */
  async pending(isMeant: (nodeId: string) => boolean): Promise<ReadonlyMap<string, Assignment[]>> {
    const rows: { id: string; node_id: string }[] = await this.#store.read().execute(
      // Its node ended a VM for want of a lease, and starts it again when it hears that it is still wanted there.
      "select id, node_id from vm where generation <> observed_generation or desired = ? or desired = ? and reason = 'LEASE_LOST'",
      [Desired.DESIRED_DELETED, Desired.DESIRED_RUNNING],
    );
    return this.of(rows.flatMap(({ id, node_id }) => (isMeant(node_id) ? [id] : [])));
  }

  /** Of these VMs, by node. Those that are gone are left out. */
  async of(vmIds: readonly string[]): Promise<ReadonlyMap<string, Assignment[]>> {
    const em = this.#store.read();
    const rows = await readVms(em, "id", vmIds);
    const nodes = new Map(rows.map(({ id, nodeId }) => [id, nodeId]));
    return Map.groupBy(await this.#assignmentsOf(em, rows), ({ vmId }) => nodes.get(vmId) ?? "");
  }

  /** Leaves out what is lost and waits for its owner's word. */
  async #assignmentsOf(em: EntityManager, rows: readonly VmRow[]): Promise<Assignment[]> {
    const wanted = rows.filter((row) => !isLost(row) && !(planted("forget-on-send") && wasTold(row)));
    const projectIds = [...new Set(wanted.map(({ projectId }) => projectId))];
    const [keys, credentialOf] = await Promise.all([keysOf(em, projectIds), this.#credentials.forNode(em, projectIds)]);
    return wanted.map((row) => ({
      ...toAssignment(row, keysIn(row, keys.get(row.projectId))),
      imageCredential: row.desired === Desired.DESIRED_DELETED ? undefined : credentialOf(row.projectId, VmSpec.fromJSON(row.spec).image),
    }));
  }
}

interface DispatchParts {
  readonly feed: Feed;
  readonly assignments: Assignments;
  readonly sessions: Sessions;
  readonly failpoints: Failpoints;
  readonly log: Log;
}

/**
 * Sends nodes that have their link here what has been asked for, as the feed tells of it, until the feed ends. Whatever is missed is said
 * again when the node says hello, and now and then.
 */
export async function dispatch({ feed, assignments, sessions, failpoints, log }: DispatchParts): Promise<void> {
  const waiting = new Set<string>();
  let isSending = false;

  /** What has come together meanwhile, at once. */
  async function send(): Promise<void> {
    if (isSending) return;
    isSending = true;
    try {
      while (waiting.size > 0) {
        const vmIds = [...waiting];
        waiting.clear();
        const lists = await assignments.of(vmIds);
        await failpoints.at("outbox.read");
        for (const [nodeId, list] of lists)
          for (const assignment of list) {
            const sending = failpoints.sending("outbox.sent", assignment.vmId);
            if (sending !== "never") sessions.assign(nodeId, assignment);
            if (sending === "twice") sessions.assign(nodeId, assignment);
          }
      }
    } catch (error) {
      log.warn("nodes could not be told what is asked for; they are told later", { error });
    } finally {
      isSending = false;
    }
  }

  for (let isOver = false; !isOver;) {
    try {
      for await (const { nodeId, tellNode, vm } of feed.subscribe()) {
        if (!sessions.get(nodeId)) continue;
        sessions.changed(nodeId, "vms");
        if (!tellNode) continue;
        waiting.add(vm.id);
        void send();
      }
      isOver = true;
    } catch (error) {
      log.warn("nodes fell behind with what is asked for; they are told later", { error });
    }
  }
}

/** Level-triggered: what was lost or dropped is said again to nodes that have their link here, until the signal aborts. Never rejects. */
export async function repeatPending(
  { assignments, sessions, failpoints, log, clock = systemClock }: Omit<DispatchParts, "feed"> & { readonly clock?: Clock },
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await sleepOrAbort(repeatMs, signal, clock);
    if (signal.aborted) return;
    try {
      for (const [nodeId, list] of await assignments.pending((id) => sessions.get(id) !== undefined)) {
        const message = { $case: "assignments", value: { assignments: list, complete: false } } as const;
        const sending = failpoints.sending("outbox.repeated", nodeId);
        if (sending !== "never") sessions.get(nodeId)?.outbox.push({ message });
        if (sending === "twice") sessions.get(nodeId)?.outbox.push({ message });
      }
    } catch (error) {
      log.warn("what nodes should do could not be read", { error });
    }
  }
}

const told = new Set<string>();

/** For the bug `forget-on-send`: what was told once is not told again. */
function wasTold({ id, epoch, generation, observedGeneration }: VmRow): boolean {
  const key = `${id} ${epoch} ${generation}`;
  const isKnown = told.has(key) && generation !== observedGeneration;
  told.add(key);
  return isKnown;
}

/** Until its owner starts it, or deletes it. */
const isLost = (row: VmRow): boolean =>
  row.reason === lostReason && row.restartGeneration <= row.observedGeneration && row.desired !== Desired.DESIRED_DELETED;

/**
 * Of a placement that is over nothing is wanted any more, whatever its node was told of it: reports say how far a node has come, which may be
 * less than what it knows.
 */
const lastGeneration = 2n ** 63n - 1n;

/** Of what the row's node has under the row's placement, which ends. */
export function deletionOf({ id, epoch }: VmRow): Assignment {
  return deletion({ vmId: id, epoch });
}

/** Of what a node has under a placement that is over. */
export function deletion({ vmId, epoch }: Pick<VmReport, "vmId" | "epoch">): Assignment {
  const rest = {
    vmName: "",
    spec: undefined,
    imageDigest: "",
    authorizedKeys: [],
    restartGeneration: 0n,
    imageCredential: undefined,
    address: undefined,
  };
  return { vmId, generation: lastGeneration, epoch, desired: Desired.DESIRED_DELETED, ...rest };
}
