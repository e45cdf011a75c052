// All nodes and what is placed on them, indexed so that a decision does not look at each of them.
//
// State: a line of numbers per node; pools of the open nodes (ready, not cordoned), by class and by value of each label with many, in
// order of load; the nodes by image; counts of VMs by group. Changed only by the methods that say so, each of which leaves all
// indexes as if they were built anew. Nothing here outlives the process: after a crash it is filled again from the database.
import { Groups } from "./groups.ts";
import { ImageIndex } from "./image-index.ts";
import { LabelIndex } from "./label-index.ts";
import { NodeClasses } from "./node-classes.ts";
import { NodeTable } from "./node-table.ts";
import type { Pool } from "./pool.ts";
import type { Labels, NodeFacts, PlacedVm } from "./wanted.ts";

/** A node as the fleet keeps it. */
export interface FleetNode {
  /** Its index among the numbers. */
  readonly number: number;
  facts: NodeFacts;
  readonly vms: Set<PlacedVm>;
  /** The pools in order of load that hold it, of its class first; none while nothing may be placed on it. */
  pools: readonly Pool[];
}

const nothing = { cpuMillis: 0, memBytes: 0, diskBytes: 0 };

export class Fleet {
  readonly table = new NodeTable();
  readonly #classes = new NodeClasses(this.table);
  readonly groups: Groups;
  readonly #nodes = new Map<string, FleetNode>();
  readonly #vms = new Map<string, { readonly vm: PlacedVm; readonly node: FleetNode }>();
  readonly #labels = new Map<string, LabelIndex>();
  readonly #noLabels: LabelIndex;
  /** Labels that are kept apart from the classes. */
  readonly #wide = new Set<string>();
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
    const before = known?.facts.labels;
    this.#nodes.set(facts.id, node);
    node.facts = facts;
    this.#enter(node);
    this.#sortOut({ ...before, ...facts.labels });
    this.#open(node);
  }

  /** Forgets a node and what is placed on it. */
  removeNode(id: string): void {
    const node = this.#nodes.get(id);
    if (!node) return;
    for (const vm of [...node.vms]) this.remove(vm.id);
    this.#withdraw(node);
    this.#nodes.delete(id);
    this.#sortOut(node.facts.labels);
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

  /** Decides as if this VM were nowhere: one that is to leave where it is does not keep itself away from anywhere. */
  without<T>(vmId: string, decide: () => T): T {
    const placed = this.#vms.get(vmId);
    if (!placed) return decide();
    this.remove(vmId);
    try {
      return decide();
    } finally {
      this.place(placed.vm);
    }
  }

  /** The same nodes and VMs, to be changed apart from these. */
  copy(): Fleet {
    const fleet = new Fleet();
    for (const { facts } of this.#nodes.values()) fleet.setNode(facts);
    for (const { vm } of this.#vms.values()) fleet.place(vm);
    return fleet;
  }

  /** All nodes, by id. */
  get nodes(): FleetNode[] {
    return [...this.#nodes.values()].toSorted((a, b) => (a.facts.id < b.facts.id ? -1 : 1));
  }

  /** The nodes that something may be placed on, by class. */
  get classes(): readonly Pool[] {
    return this.#classes.pools;
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

  /** Counts a node as its facts are. */
  #enter({ number, facts, vms }: FleetNode): void {
    this.table.setLimit(number, facts.capacity);
    this.table.setLoad(number, this.table.loadWith(number, nothing));
    for (const [key, value] of Object.entries(facts.labels)) of(this.#labels, key, () => new LabelIndex(this.table)).add(number, value);
    for (const vm of vms) this.groups.add(vm, number, 1);
  }

  /** Undoes `#open` and `#enter`. */
  #withdraw(node: FleetNode): void {
    const { number, facts, vms } = node;
    this.#close(node);
    for (const vm of vms) this.groups.add(vm, number, -1);
    for (const [key, value] of Object.entries(facts.labels)) this.labels(key).remove(number, value);
  }

  /** Takes a node into the pools, if something may be placed on it. */
  #open(node: FleetNode): void {
    const { number, facts } = node;
    if (!facts.ready || facts.cordoned) return;
    const labels = Object.entries(facts.labels);
    const narrow = labels.filter(([key]) => !this.#wide.has(key));
    const wide = labels.filter(([key]) => this.#wide.has(key));
    node.pools = [this.#classes.add(number, narrow), ...wide.flatMap(([key, value]) => this.labels(key).open(number, value))];
    for (const digest of new Set(facts.images)) of(this.#images, digest, () => new ImageIndex(this.table)).add(number);
  }

  #close(node: FleetNode): void {
    const { number, facts, pools } = node;
    const [pool] = pools;
    if (!pool) return;
    this.#classes.remove(number, pool);
    for (const [key, value] of Object.entries(facts.labels)) if (this.#wide.has(key)) this.labels(key).close(number, value);
    for (const digest of new Set(facts.images)) this.#removeImage(number, digest);
    node.pools = [];
  }

  /** Makes all classes anew when one of these labels has come to have many values, or few. */
  #sortOut(labels: Labels): void {
    const changed = Object.keys(labels).filter((key) => this.labels(key).isWide !== this.#wide.has(key));
    if (changed.length === 0) return;
    const open = [...this.#nodes.values()].filter(({ pools }) => pools.length > 0);
    for (const node of open) this.#close(node);
    for (const key of changed) if (!this.#wide.delete(key)) this.#wide.add(key);
    for (const node of open) this.#open(node);
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
