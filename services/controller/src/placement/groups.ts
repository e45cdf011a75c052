// Counts of VMs per group and failure domain: what anti-affinity forbids and spread counts.
import { unset, type LabelIndex } from "./label-index.ts";
import type { Group, PlacedVm } from "./wanted.ts";

/** The nodes by a label; undefined when no node ever had it. */
export type LabelsByKey = (key: string) => LabelIndex | undefined;

/** Some VMs, counted by node and by the values of each label that was ever asked for. */
export class Tally {
  readonly #labels: LabelsByKey;
  readonly #byNode = new Map<number, number>();
  readonly #byLabel = new Map<string, Map<number, number>>();

  constructor(labels: LabelsByKey) {
    this.#labels = labels;
  }

  get isEmpty(): boolean {
    return this.#byNode.size === 0;
  }

  /** Counts by node, or by the id of the label's value. */
  by(domain: string): ReadonlyMap<number, number> {
    if (domain === "") return this.#byNode;
    const known = this.#byLabel.get(domain);
    if (known) return known;
    const [index, counts] = [this.#labels(domain), new Map<number, number>()];
    for (const [node, count] of this.#byNode) addTo(counts, index?.idOf(node) ?? unset, count);
    if (index) this.#byLabel.set(domain, counts); // whoever asks names the label: only those of nodes are kept
    return counts;
  }

  add(node: number, count: 1 | -1): void {
    addTo(this.#byNode, node, count);
    for (const [domain, counts] of this.#byLabel) addTo(counts, this.#labels(domain)?.idOf(node) ?? unset, count);
  }
}

function addTo(counts: Map<number, number>, key: number, count: number): void {
  const sum = (counts.get(key) ?? 0) + count;
  if (sum === 0) counts.delete(key);
  else counts.set(key, sum);
}

type Seen = Pick<PlacedVm, "project" | "labels" | "antiAffinity">;

export class Groups {
  readonly #labels: LabelsByKey;
  readonly #members = new Map<string, Tally>();
  /** VMs that keep away from a group, by the group and then by kind of domain. */
  readonly #keepers = new Map<string, Map<string, Tally>>();

  constructor(labels: LabelsByKey) {
    this.#labels = labels;
  }

  /** Counts a VM in (1) or out (-1). A node's labels must not change between the two. */
  add(vm: Seen, node: number, count: 1 | -1): void {
    for (const name of namesOf(vm)) {
      const tally = this.#members.get(name) ?? setNew(this.#members, name, new Tally(this.#labels));
      tally.add(node, count);
      if (tally.isEmpty) this.#members.delete(name);
    }
    for (const group of vm.antiAffinity) {
      const name = nameOf(vm.project, group);
      const kinds = this.#keepers.get(name) ?? setNew(this.#keepers, name, new Map<string, Tally>());
      const tally = kinds.get(group.domain) ?? setNew(kinds, group.domain, new Tally(this.#labels));
      tally.add(node, count);
      if (tally.isEmpty) kinds.delete(group.domain);
      if (kinds.size === 0) this.#keepers.delete(name);
    }
  }

  /** The VMs of a group; undefined when there is none. */
  members(project: string, group: Group): Tally | undefined {
    return this.#members.get(nameOf(project, group));
  }

  /** The VMs that keep away from this one, with the kind of domain that each of them wants for itself. */
  keepers(vm: Seen): (readonly [domain: string, Tally])[] {
    return namesOf(vm).flatMap((name) => [...(this.#keepers.get(name) ?? [])]);
  }
}

function setNew<K, V>(map: Map<K, V>, key: K, value: V): V {
  map.set(key, value);
  return value;
}

/** Of the groups that a VM is in. */
function namesOf({ project, labels }: Seen): string[] {
  return [project, ...Object.entries(labels).map(([key, value]) => `${project}\0${key}\0${value}`)];
}

function nameOf(project: string, { label }: Group): string {
  return label ? `${project}\0${label.key}\0${label.value}` : project;
}
