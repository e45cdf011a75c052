// Counts of VMs per group and failure domain: what anti-affinity forbids and spread counts.
import { Counts } from "./counts.ts";
import { unset, type LabelIndex } from "./label-index.ts";
import type { Group, PlacedVm } from "./wanted.ts";

/** The nodes by a label; undefined when no node ever had it. */
export type LabelsByKey = (key: string) => LabelIndex | undefined;

/** Some VMs, counted by node and by the values of each label that was ever asked for. */
export class Tally {
  readonly #labels: LabelsByKey;
  readonly #byNode = new Counts();
  readonly #byLabel = new Map<string, Counts>();

  constructor(labels: LabelsByKey) {
    this.#labels = labels;
  }

  get isEmpty(): boolean {
    return this.#byNode.size === 0;
  }

  /** Counts by node, or by the id of the label's value. */
  by(domain: string): Counts {
    if (domain === "") return this.#byNode;
    const known = this.#byLabel.get(domain);
    if (known) return known;
    const [index, counts] = [this.#labels(domain), new Counts()];
    for (const [node, count] of this.#byNode) counts.add(index?.idOf(node) ?? unset, count);
    if (index) this.#byLabel.set(domain, counts); // whoever asks names the label: only those of nodes are kept
    return counts;
  }

  add(node: number, count: 1 | -1): void {
    this.#byNode.add(node, count);
    for (const [domain, counts] of this.#byLabel) counts.add(this.#labels(domain)?.idOf(node) ?? unset, count);
  }
}

type Seen = Pick<PlacedVm, "project" | "labels" | "antiAffinity">;

interface Entry {
  readonly members: Tally;
  /** VMs that keep away from the group, by the kind of domain that each of them wants for itself. There are few kinds. */
  readonly keepers: Keepers[];
}

export interface Keepers {
  readonly domain: string;
  readonly tally: Tally;
}

/** Of one project: what is looked up for one VM lies together. */
interface ProjectGroups {
  readonly all: Entry;
  readonly byKey: Map<string, Map<string, Entry>>;
}

export class Groups {
  readonly #labels: LabelsByKey;
  readonly #projects = new Map<string, ProjectGroups>();

  constructor(labels: LabelsByKey) {
    this.#labels = labels;
  }

  /** Counts a VM in (1) or out (-1). A node's labels must not change between the two. */
  add(vm: Seen, node: number, count: 1 | -1): void {
    const { project, labels, antiAffinity } = vm;
    this.#change(project, undefined, ({ members }) => members.add(node, count));
    for (const [key, value] of Object.entries(labels)) this.#change(project, { key, value }, ({ members }) => members.add(node, count));
    for (const { label, domain } of antiAffinity)
      this.#change(project, label, ({ keepers }) => {
        const at = keepers.findIndex((kind) => kind.domain === domain);
        const { tally } = keepers[at] ?? { tally: new Tally(this.#labels) };
        tally.add(node, count);
        if (at < 0) keepers.push({ domain, tally });
        else if (tally.isEmpty) keepers.splice(at, 1);
      });
  }

  #change(project: string, label: Group["label"], change: (entry: Entry) => void): void {
    const groups = this.#projects.get(project) ?? { all: this.#entry(), byKey: new Map<string, Map<string, Entry>>() };
    this.#projects.set(project, groups);
    const { all, byKey } = groups;
    if (!label) change(all);
    else {
      const { key, value } = label;
      const byValue = byKey.get(key) ?? new Map<string, Entry>();
      const entry = byValue.get(value) ?? this.#entry();
      change(entry);
      if (isEmpty(entry)) byValue.delete(value);
      else byValue.set(value, entry);
      if (byValue.size === 0) byKey.delete(key);
      else byKey.set(key, byValue);
    }
    if (isEmpty(all) && byKey.size === 0) this.#projects.delete(project);
  }

  #entry(): Entry {
    return { members: new Tally(this.#labels), keepers: [] };
  }

  /** The VMs of a group; undefined when there is none. */
  members(project: string, { label }: Group): Tally | undefined {
    const groups = this.#projects.get(project);
    const entry = label ? groups?.byKey.get(label.key)?.get(label.value) : groups?.all;
    return entry?.members.isEmpty === false ? entry.members : undefined;
  }

  /** The VMs that keep away from this one, with the kind of domain that each of them wants for itself. */
  keepers({ project, labels }: Seen): Keepers[] {
    const groups = this.#projects.get(project);
    if (!groups) return [];
    const found = [...groups.all.keepers];
    if (groups.byKey.size > 0)
      for (const key in labels) {
        const entry = groups.byKey.get(key)?.get(labels[key] ?? "");
        if (entry) found.push(...entry.keepers);
      }
    return found;
  }
}

function isEmpty({ members, keepers }: Entry): boolean {
  return members.isEmpty && keepers.length === 0;
}
