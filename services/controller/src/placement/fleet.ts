// All nodes and what is placed on them, indexed so that a decision does not look at each of them.
//
// State: a line of numbers per node; pools of the open nodes (ready, not cordoned), all of them and by label value, in order of load;
// the nodes by image; counts of VMs by group. Changed only by the four methods that say so, each of which leaves all indexes as if they
// were built anew. Nothing here outlives the process: after a crash it is filled again from the database.
import { Groups } from "./groups.ts";
import { ImageIndex } from "./image-index.ts";
import { LabelIndex } from "./label-index.ts";
import { NodeTable } from "./node-table.ts";
import { Pool } from "./pool.ts";
import type { NodeFacts, PlacedVm } from "./wanted.ts";

/** A node as the fleet keeps it. */
export interface FleetNode {
  /** Its index among the numbers. */
  readonly number: number;
  facts: NodeFacts;
  readonly vms: Set<PlacedVm>;
  /** The pools in order of load that hold it; none while nothing may be placed on it. */
  pools: readonly Pool[];
}

const nothing = { cpuMillis: 0, memBytes: 0, diskBytes: 0 };

export class Fleet {
  readonly table = new NodeTable();
  /** The nodes that something may be placed on. */
  readonly open = new Pool(this.table, "by-load");
  readonly groups: Groups;
  readonly #nodes = new Map<string, FleetNode>();
  readonly #vms = new Map<string, { readonly vm: PlacedVm; readonly node: FleetNode }>();
  readonly #labels = new Map<string, LabelIndex>();
  readonly #noLabels: LabelIndex;
  readonly #images = new Map<string, ImageIndex>();

  constructor() {
    this.groups = new Groups((key) => this.#labels.get(key));
    this.#noLabels = new LabelIndex(this.table);
  }

  /** Adds a node, or takes what has changed of it; its VMs stay on it. */
  setNode(facts: NodeFacts): void {
    const known = this.#nodes.get(facts.id);
    const node = known ?? { number: this.table.add(facts.id), facts, vms: new Set(), pools: [] };
    if (known) this.#withdraw(known);
    this.#nodes.set(facts.id, node);
    node.facts = facts;
    this.#enter(node);
  }

  /** Forgets a node and what is placed on it. */
  removeNode(id: string): void {
    const node = this.#nodes.get(id);
    if (!node) return;
    for (const vm of [...node.vms]) this.remove(vm.id);
    this.#withdraw(node);
    this.#nodes.delete(id);
    this.table.release(node.number);
  }

  /** Counts a VM where it is, also beyond what the node has; one of the same id is replaced. Its node must be known. */
  place(vm: PlacedVm): void {
    const node = this.#nodes.get(vm.nodeId);
    if (!node) throw new Error(`VM ${vm.id} is on node ${vm.nodeId}, which the fleet does not know`);
    this.remove(vm.id);
    this.#vms.set(vm.id, { vm, node });
    node.vms.add(vm);
    this.groups.add(vm, node.number, 1);
    this.#use(node, vm, 1);
  }

  remove(vmId: string): void {
    const placed = this.#vms.get(vmId);
    if (!placed) return;
    const { vm, node } = placed;
    this.#vms.delete(vmId);
    node.vms.delete(vm);
    this.groups.add(vm, node.number, -1);
    this.#use(node, vm, -1);
  }

  /** All nodes, by id. */
  get nodes(): FleetNode[] {
    return [...this.#nodes.values()].toSorted((a, b) => (a.facts.id < b.facts.id ? -1 : 1));
  }

  /** The nodes by a label. */
  labels(key: string): LabelIndex {
    return this.#labels.get(key) ?? this.#noLabels;
  }

  image(digest: string): ImageIndex | undefined {
    return this.#images.get(digest);
  }

  #use({ number, pools }: FleetNode, vm: PlacedVm, sign: 1 | -1): void {
    this.table.use(number, vm.resources, sign);
    const load = this.table.loadWith(number, nothing);
    for (const pool of pools) pool.move(number, load);
    this.table.setLoad(number, load);
  }

  /** Puts a node into all indexes, as its facts are. */
  #enter(node: FleetNode): void {
    const { number, facts, vms } = node;
    const labels = Object.entries(facts.labels);
    this.table.setLimit(number, facts.capacity, facts.overcommit);
    this.table.setLoad(number, this.table.loadWith(number, nothing));
    for (const [key, value] of labels) of(this.#labels, key, () => new LabelIndex(this.table)).add(number, value);
    for (const vm of vms) this.groups.add(vm, number, 1);
    if (!facts.ready || facts.cordoned) return;
    node.pools = [this.open, ...labels.flatMap(([key, value]) => this.labels(key).open(number, value) ?? [])];
    this.open.add(number);
    for (const digest of new Set(facts.images)) of(this.#images, digest, () => new ImageIndex(this.table)).add(number);
  }

  /** Undoes `#enter`. */
  #withdraw(node: FleetNode): void {
    const { number, facts, vms, pools } = node;
    const labels = Object.entries(facts.labels);
    if (pools.length > 0) {
      this.open.remove(number);
      for (const [key, value] of labels) this.labels(key).close(number, value);
      for (const digest of new Set(facts.images)) this.#removeImage(number, digest);
      node.pools = [];
    }
    for (const vm of vms) this.groups.add(vm, number, -1);
    for (const [key, value] of labels) this.labels(key).remove(number, value);
  }

  #removeImage(number: number, digest: string): void {
    const image = this.#images.get(digest);
    image?.remove(number);
    if (image?.pool.size === 0) this.#images.delete(digest);
  }
}

function of<V>(map: Map<string, V>, key: string, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
