// Finds a node for a VM, inside the change that places it. The fleet's view decides; the database has the last word: capacity is a
// constraint of its own, and what else must hold is looked at here once more.
import type { NodeRejection } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError, systemRandom, type Random } from "@pitwall/runtime";
import type { Change } from "../mutation/mutations.ts";
import { planStale } from "../mutation/plan-token.ts";
import { explain, type Rejection, type Why } from "../placement/explain.ts";
import { place } from "../placement/scheduler.ts";
import type { NodeName } from "../nodes/nodes.ts";
import type { Group, Wanted } from "../placement/wanted.ts";
import type { EntityManager } from "../store/store.ts";
import type { FleetView } from "./fleet-view.ts";
import { placedVm, wantedOf, type PlacementFacts } from "./wanted.ts";

const maxSeed = 2 ** 31;
const maxNamed = 3;

export interface PlaceRequest extends PlacementFacts {
  readonly vmId: string;
}

export interface Placed {
  readonly id: string;
  readonly name: string;
  /** Why not there; of all other nodes, for a change that only asks. */
  readonly rejections: readonly NodeRejection[];
}

/** The database says that the view was old: the change must be made anew, with a new one. */
export class StaleFleet extends Error {}

export class Placer {
  readonly #view: FleetView;
  readonly #random: Random;
  /** How often it may look at the fleet anew. */
  #looksLeft = Infinity;

  /** `random` decides between nodes that are equally good. */
  constructor(view: FleetView, random: Random = systemRandom) {
    this.#view = view;
    this.#random = random;
  }

  /** A VM that is being made counts on its node from now on, until {@link release}, or until its row is seen. */
  reserve({ vmId, ...facts }: PlaceRequest, nodeId: string): void {
    this.#view.reserve(placedVm(vmId, nodeId, facts));
  }

  /** The best node in the view, reserved; undefined: there is none. What else must hold ({@link readyNode}) is still to be looked at. */
  reserveBest(request: PlaceRequest): string | undefined {
    const best = place(this.#view.fleet, wantedOf(request), Math.floor(this.#random() * maxSeed));
    if (best) this.reserve(request, best.nodeId);
    return best?.nodeId;
  }

  /** The change came to nothing, or was only asked about. */
  release(vmId: string): void {
    this.#view.release(vmId);
  }

  /** For many placements in a row that may all find nothing: the fleet is looked at anew once for all of them. */
  round(): Placer {
    const placer = new Placer(this.#view, this.#random);
    placer.#looksLeft = 1;
    return placer;
  }

  /** Before another try. */
  refresh(): Promise<void> {
    return this.#view.refresh();
  }

  /**
   * The node that the plan names, or else the best. Throws `unavailable` when no node is ready, `exhausted` when none will do, `race`
   * (PLAN_STALE) when the planned one will not, and {@link StaleFleet}.
   */
  async place(change: Change, request: PlaceRequest): Promise<Placed> {
    const wanted = wantedOf(request);
    const seed = Math.floor(this.#random() * maxSeed);
    const choose = (): string | undefined => this.#view.fleet.without(request.vmId, () => this.#choose(change, wanted, seed));
    const nodeId = choose() ?? (await this.#chooseAnew(change, request, choose));
    await hold(change.em, nodeId, request.vmId, wanted);
    const rejections = change.validateOnly ? this.#view.fleet.without(request.vmId, () => this.#rejections(wanted, nodeId)) : [];
    return { id: nodeId, name: this.#view.nameOf(nodeId), rejections };
  }

  #choose({ plan }: Change, wanted: Wanted, seed: number): string | undefined {
    if (plan) return this.#whyNot(wanted, plan.nodeId) === undefined ? plan.nodeId : undefined;
    return place(this.#view.fleet, wanted, seed)?.nodeId;
  }

  async #chooseAnew({ plan }: Change, request: PlaceRequest, choose: () => string | undefined): Promise<string> {
    if (this.#looksLeft-- > 0) {
      await this.#view.refresh();
      const chosen = choose();
      if (chosen !== undefined) return chosen;
    }
    const wanted = wantedOf(request);
    throw this.#view.fleet.without(request.vmId, () => {
      if (plan) return planStale(`on its node, ${this.#whyNot(wanted, plan.nodeId) ?? "nothing may be placed"}`);
      return noNode(explain(this.#view.fleet, wanted, undefined), (id) => this.#view.nameOf(id));
    });
  }

  /**
   * What {@link place} would choose for one VM after the other that has to leave the node: each counts, where it would be, for those after it.
   * Throws as that does, and places nothing.
   */
  async rehearse(leftNodeId: string): Promise<(request: PlaceRequest) => NodeName> {
    await this.#view.refresh();
    const fleet = this.#view.fleet.copy();
    const left = this.#view.node(leftNodeId);
    if (left) fleet.setNode({ ...left, cordoned: true });
    return (request) => {
      const wanted = wantedOf(request);
      fleet.remove(request.vmId);
      const best = place(fleet, wanted, Math.floor(this.#random() * maxSeed));
      fleet.place(placedVm(request.vmId, best?.nodeId ?? leftNodeId, request));
      if (best) return { id: best.nodeId, name: this.#view.nameOf(best.nodeId) };
      throw fleet.without(request.vmId, () => noNode(explain(fleet, wanted, undefined), (id) => this.#view.nameOf(id)));
    };
  }

  /** Why the node will not do, in words; undefined: it will. */
  #whyNot(wanted: Wanted, nodeId: string): string | undefined {
    if (!this.#view.node(nodeId)) return "nothing may be placed: it is gone";
    const found = explain(this.#view.fleet, wanted, undefined).find((rejection) => rejection.nodeId === nodeId);
    return found === undefined || wouldDo.has(found.why) ? undefined : found.message;
  }

  #rejections(wanted: Wanted, chosenId: string): NodeRejection[] {
    const score = place(this.#view.fleet, wanted, 0);
    const chosen = { nodeId: chosenId, score: score?.score ?? 0 };
    return explain(this.#view.fleet, wanted, chosen).map(({ nodeId, why, message }) => ({
      ...{ nodeId, nodeName: this.#view.nameOf(nodeId), message },
      reason: why.toUpperCase().replaceAll("-", "_"),
    }));
  }
}

const wouldDo: ReadonlySet<Why> = new Set(["scored-lower", "not-compared"]);

/** SQL: what must hold of `node` and its session `s` for VMs to be placed there. */
export const readyNode = "not node.cordoned and s.end_time is null and s.lost_time is null and s.lease_expire_time > now()";

/**
 * Whether the node is ready now, and none that the VM keeps away from has come meanwhile: changes that place VMs of one group wait for each
 * other. Throws {@link StaleFleet}.
 */
async function hold(em: EntityManager, nodeId: string, vmId: string, { project, antiAffinity }: Wanted): Promise<void> {
  for (const { label } of antiAffinity)
    if (label)
      await em.execute("select pg_advisory_xact_lock(hashtextextended(?, 1))", [JSON.stringify([project, label.key, label.value])]);
  const ready: unknown[] = await em.execute(
    `select 1 from node join node_session s on s.node_id = node.id where node.id = ? and ${readyNode}`,
    [nodeId],
  );
  if (ready.length === 0) throw new StaleFleet("the node is not ready any more");
  for (const group of antiAffinity) if (await isTaken(em, nodeId, vmId, project, group)) throw new StaleFleet("its domain is taken");
}

async function isTaken(em: EntityManager, nodeId: string, vmId: string, project: string, { label, domain }: Group): Promise<boolean> {
  if (!label) return false;
  const rows: unknown[] = await em.execute(
    `select 1 from vm join node on node.id = vm.node_id
     where vm.project_id = ? and vm.id <> ? and vm.spec -> 'labels' ->> ? = ?
       and case when ? = '' then vm.node_id = ?::uuid
           else node.labels ->> ? is not distinct from (select labels ->> ? from node where id = ?::uuid) end limit 1`,
    [project, vmId, label.key, label.value, domain, nodeId, domain, domain, nodeId],
  );
  return rows.length > 0;
}

function noNode(rejections: readonly Rejection[], nameOf: (nodeId: string) => string): PitwallError {
  const open = rejections.filter(({ why }) => why !== "not-ready" && why !== "cordoned");
  if (open.length === 0) {
    const cordoned = rejections.filter(({ why }) => why === "cordoned").length;
    const but = cordoned > 0 ? `, but for ${cordoned} that take${cordoned === 1 ? "s" : ""} nothing new (cordoned)` : "";
    return new PitwallError("unavailable", `no node is ready${but}; see \`pitwall nodes\``, { reason: "NO_NODE_READY" });
  }
  const named = open
    .map(({ nodeId, message }) => `${nameOf(nodeId)}: ${message}`)
    .toSorted()
    .slice(0, maxNamed);
  const more = open.length > maxNamed ? `; and ${open.length - maxNamed} more` : "";
  const isFull = open.every(({ why }) => why === "no-room");
  const what = isFull ? "no node has room for the VM" : "no node may have the VM";
  const advice = isFull ? "; stop or delete VMs, or add a node" : "; change its placement, or add a node";
  return new PitwallError("exhausted", `${what}: ${named.join("; ")}${more}${advice}`, { reason: isFull ? "NO_CAPACITY" : "NO_NODE_FITS" });
}
