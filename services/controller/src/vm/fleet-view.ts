// The fleet as this controller last saw it: kept in memory, so that a decision reads no rows. It may lag behind: whoever acts on it has the
// database check the outcome, and looks anew when that, or the lack of a node, says that the view is old.
//
// State: a Fleet, filled from the rows and then kept by the feed of VMs and by news of nodes. After a crash it is filled again.
import { Phase, VmSpec, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { sleepOrAbort, systemClock, type Clock, type Log } from "@pitwall/runtime";
import type { Nodes } from "../nodes/nodes.ts";
import type { Sessions } from "../nodes/sessions.ts";
import { Fleet } from "../placement/fleet.ts";
import type { NodeFacts, PlacedVm } from "../placement/wanted.ts";
import type { Store } from "../store/store.ts";
import type { Feed } from "./feed.ts";
import { placedVm, resourcesOf } from "./wanted.ts";

/** How long news of nodes is gathered, and how often nodes are looked at without any. */
const gatherMs = 50;
const lookEveryMs = 5_000;
/** Looks that take long, as at some thousand nodes, are made less often: so many times as long as the last one took is in between. */
const restShare = { news: 4, none: 50 } as const;

export interface FleetParts {
  readonly store: Store;
  readonly nodes: Pick<Nodes, "facts">;
  readonly sessions: Pick<Sessions, "onChange">;
  readonly feed: Feed;
  readonly log: Log;
  readonly clock?: Clock;
}

interface VmFactsRow {
  readonly id: string;
  readonly node_id: string;
  readonly project_id: string;
  readonly revision: string;
  readonly desired: number;
  readonly phase: number;
  readonly cpu_millis: number;
  readonly mem_bytes: string;
  readonly disk_bytes: string;
  readonly spec: unknown;
}

export class FleetView {
  readonly #parts: FleetParts;
  readonly #clock: Clock;
  #fleet = new Fleet();
  #names: ReadonlyMap<string, string> = new Map();
  #facts: ReadonlyMap<string, NodeFacts> = new Map();
  /** Of each VM in the fleet: older news of it is none. 0n while its row is being written here. */
  readonly #revisions = new Map<string, bigint>();
  #filling: Promise<void> | undefined;
  #isStale = true;
  #wake: () => void = () => undefined;

  constructor(parts: FleetParts) {
    this.#parts = parts;
    this.#clock = parts.clock ?? systemClock;
  }

  get fleet(): Fleet {
    return this.#fleet;
  }

  node(id: string): NodeFacts | undefined {
    return this.#facts.get(id);
  }

  nameOf(nodeId: string): string {
    return this.#names.get(nodeId) ?? "";
  }

  /** Counts a VM whose row is being written; {@link release} it when that fails. */
  reserve(vm: PlacedVm): void {
    this.#revisions.set(vm.id, 0n);
    this.#fleet.place(vm);
  }

  /** Undoes {@link reserve}, unless the row is known by now. */
  release(vmId: string): void {
    if (this.#revisions.get(vmId) === 0n) this.#forget(vmId);
  }

  /** Sees all that was there when this was called. Calls that come together share one look. */
  async refresh(): Promise<void> {
    await this.#filling?.catch(() => undefined); // it may have begun before
    this.#filling ??= this.#fill().finally(() => {
      this.#filling = undefined;
    });
    await this.#filling;
  }

  /** Until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#followVms(signal), this.#followNodes(signal)]);
  }

  async #followVms(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const changes = this.#parts.feed.subscribe();
      const onAbort = (): void => changes.close();
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        await this.refresh();
        for await (const { vm, nodeId, projectId, revision } of changes) this.#take(vm, nodeId, projectId, revision);
        return; // the feed is over
      } catch (error) {
        this.#parts.log.warn("the fleet could not be followed; it is looked at anew", { error });
        await sleepOrAbort(lookEveryMs / 5, signal, this.#clock);
      } finally {
        signal.removeEventListener("abort", onAbort);
        changes.close();
      }
    }
  }

  async #followNodes(signal: AbortSignal): Promise<void> {
    const stop = this.#parts.sessions.onChange((_, what) => {
      if (what === "node") this.#nodesChanged(); // what becomes of VMs, the feed tells
    });
    for (let tookMs = 0; !signal.aborted;) {
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      const restMs = Math.max(lookEveryMs, restShare.none * tookMs);
      if (!this.#isStale) await sleepOrAbort(restMs, AbortSignal.any([signal, woken.signal]), this.#clock);
      await sleepOrAbort(Math.max(gatherMs, restShare.news * tookMs), signal, this.#clock);
      this.#isStale = false;
      const begunMs = this.#clock.monotonicMs();
      await this.#lookAtNodes().catch((error: unknown) => this.#parts.log.warn("nodes could not be looked at", { error }));
      tookMs = this.#clock.monotonicMs() - begunMs;
    }
    stop();
  }

  #nodesChanged(): void {
    this.#isStale = true;
    this.#wake();
  }

  #take(vm: Vm, nodeId: string, projectId: string, revision: bigint): void {
    if (revision <= (this.#revisions.get(vm.id) ?? -1n)) return;
    if (vm.phase === Phase.PHASE_GONE) return this.#forget(vm.id);
    const spec = vm.spec ?? VmSpec.fromPartial({});
    this.#put(placedVm(vm.id, nodeId, { projectId, spec, resources: resourcesOf({ ...vm, ...spec }) }), revision);
  }

  #put(vm: PlacedVm, revision: bigint): void {
    this.#revisions.set(vm.id, revision);
    if (this.#facts.has(vm.nodeId)) this.#fleet.place(vm);
    else this.#nodesChanged(); // one that this view has yet to see
  }

  #forget(vmId: string): void {
    this.#revisions.delete(vmId);
    this.#fleet.remove(vmId);
  }

  /** What has changed of nodes; one that is new or gone makes the fleet anew. */
  async #lookAtNodes(): Promise<void> {
    const { facts, names } = await this.#parts.nodes.facts(this.#parts.store.read());
    const isSameSet = facts.length === this.#facts.size && facts.every(({ id }) => this.#facts.has(id));
    if (!isSameSet) return this.refresh();
    for (const fact of facts) if (!isSame(fact, this.#facts.get(fact.id))) this.#fleet.setNode(fact);
    this.#facts = new Map(facts.map((fact) => [fact.id, fact]));
    this.#names = names;
  }

  async #fill(): Promise<void> {
    const em = this.#parts.store.read();
    const { facts, names } = await this.#parts.nodes.facts(em);
    const rows: VmFactsRow[] = await em.execute(
      "select id, node_id, project_id, revision, desired, phase, cpu_millis, mem_bytes, disk_bytes, spec from vm",
    );
    const reserved = [...this.#revisions].flatMap(([id, revision]) => (revision === 0n ? [id] : []));
    const before = this.#fleet;
    const fleet = new Fleet();
    for (const fact of facts) fleet.setNode(fact);
    this.#facts = new Map(facts.map((fact) => [fact.id, fact]));
    this.#names = names;
    const known = new Set(rows.map(({ id }) => id));
    const kept = before.nodes.flatMap(({ vms }) => [...vms]).filter((vm) => reserved.includes(vm.id) && !known.has(vm.id));
    this.#fleet = fleet;
    this.#revisions.clear();
    for (const row of rows) {
      const size = { ...row, cpuMillis: row.cpu_millis, memBytes: BigInt(row.mem_bytes), diskBytes: BigInt(row.disk_bytes) };
      const spec = VmSpec.fromJSON(row.spec);
      this.#put(placedVm(row.id, row.node_id, { projectId: row.project_id, spec, resources: resourcesOf(size) }), BigInt(row.revision));
    }
    for (const vm of kept) if (this.#facts.has(vm.nodeId)) this.reserve(vm);
  }
}

function isSame(one: NodeFacts, other: NodeFacts | undefined): boolean {
  if (one.ready !== other?.ready || one.cordoned !== other.cordoned) return false;
  const facts = ({ capacity, labels, images }: NodeFacts): string => JSON.stringify([capacity, labels, images]);
  return facts(one) === facts(other);
}
