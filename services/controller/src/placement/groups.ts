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

interface Entry {
  readonly members: Tally;
  /** VMs that keep away from the group, by the kind of domain that each of them wants for itself. */
  readonly keepers: Map<string, Tally>;
}

export class Groups {
  readonly #labels: LabelsByKey;
  readonly #groups = new Map<string, Entry>();

  constructor(labels: LabelsByKey) {
    this.#labels = labels;
  }

  /** Counts a VM in (1) or out (-1). A node's labels must not change between the two. */
  add(vm: Seen, node: number, count: 1 | -1): void {
    for (const name of namesOf(vm)) this.#change(name, ({ members }) => members.add(node, count));
    for (const group of vm.antiAffinity)
      this.#change(nameOf(vm.project, group), ({ keepers }) => {
        const tally = keepers.get(group.domain) ?? new Tally(this.#labels);
        tally.add(node, count);
        if (tally.isEmpty) keepers.delete(group.domain);
        else keepers.set(group.domain, tally);
      });
  }

  #change(name: string, change: (entry: Entry) => void): void {
    const known = this.#groups.get(name);
    const entry = known ?? { members: new Tally(this.#labels), keepers: new Map<string, Tally>() };
    change(entry);
    if (!known) this.#groups.set(name, entry);
    else if (entry.members.isEmpty && entry.keepers.size === 0) this.#groups.delete(name);
  }

  /** The VMs of a group; undefined when there is none. */
  members(project: string, group: Group): Tally | undefined {
    const entry = this.#groups.get(nameOf(project, group));
    return entry?.members.isEmpty === false ? entry.members : undefined;
  }

  /** The VMs that keep away from this one, with the kind of domain that each of them wants for itself. */
  keepers(vm: Seen): (readonly [domain: string, Tally])[] {
    return namesOf(vm).flatMap((name) => {
      const keepers = this.#groups.get(name)?.keepers;
      return keepers && keepers.size > 0 ? [...keepers] : [];
    });
  }
}

/** Of the groups that a VM is in. */
function namesOf({ project, labels }: Seen): string[] {
  return [project, ...Object.entries(labels).map(([key, value]) => `${project}\0${key}\0${value}`)];
}

function nameOf(project: string, { label }: Group): string {
  return label ? `${project}\0${label.key}\0${label.value}` : project;
}
