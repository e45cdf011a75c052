// What a VM asks for, against what the fleet holds right now: may a node have it, and how good would that be.
//
// Made for one decision; everything that is looked up by a name is looked up once, since hundreds of nodes are asked.
import type { Fleet } from "./fleet.ts";
import type { Tally } from "./groups.ts";
import type { ImageIndex } from "./image-index.ts";
import { unset, type LabelIndex } from "./label-index.ts";
import type { NodeTable } from "./node-table.ts";
import type { Group, LabelTerm, Wanted } from "./wanted.ts";

/**
 * How much each part says in a score. Each is 0 to 1, but spread: that is the number of VMs in the way, and one of them outweighs the
 * rest together.
 */
const weights = { load: 1, preferred: 1, image: 0.25, spread: 3 } as const;

interface Test {
  readonly term: LabelTerm;
  readonly index: LabelIndex;
  readonly ids: readonly number[];
}

interface Counted {
  /** Absent for nodes as domains. */
  readonly index: LabelIndex | undefined;
  readonly counts: ReadonlyMap<number, number>;
}

/** Why a node is closed to a VM. The group is undefined when another's anti-affinity closes it. */
export interface Conflict extends Counted {
  readonly domain: string;
  readonly group: Group | undefined;
}

export class Query {
  readonly wanted: Wanted;
  readonly #table: NodeTable;
  readonly #required: readonly Test[];
  readonly #preferred: readonly (Test & { readonly share: number })[];
  readonly #closed: readonly Conflict[];
  readonly #spread: readonly Counted[];
  readonly #image: ImageIndex | undefined;

  constructor(fleet: Fleet, wanted: Wanted) {
    const { project, required, preferred, antiAffinity, spread, image } = wanted;
    const test = (term: LabelTerm): Test => {
      const index = fleet.labels(term.key);
      return { term, index, ids: "values" in term ? term.values.flatMap((value) => index.id(value) ?? []) : [] };
    };
    const counted = (tally: Tally, domain: string): Counted => ({
      index: domain === "" ? undefined : fleet.labels(domain),
      counts: tally.by(domain),
    });
    const own = (group: Group): Conflict[] => {
      const tally = fleet.groups.members(project, group);
      return tally ? [{ ...counted(tally, group.domain), domain: group.domain, group }] : [];
    };
    const keepers = fleet.groups.keepers(wanted).map(([domain, tally]) => ({ ...counted(tally, domain), domain, group: undefined }));
    const weight = preferred.reduce((sum, preference) => sum + preference.weight, 0);
    this.wanted = wanted;
    this.#table = fleet.table;
    this.#required = required.map(test);
    this.#preferred = preferred.map((preference) => ({ ...test(preference.term), share: preference.weight / weight }));
    // In an order that does not tell who came first.
    this.#closed = [...antiAffinity.flatMap(own), ...keepers.toSorted((a, b) => (a.domain < b.domain ? -1 : 1))];
    this.#spread = spread.flatMap(own);
    this.#image = image === "" ? undefined : fleet.image(image);
  }

  /** Whether an open node may have it. */
  allows(node: number): boolean {
    return this.#table.fits(node, this.wanted.resources) && !this.failedTerm(node) && !this.conflict(node);
  }

  failedTerm(node: number): LabelTerm | undefined {
    for (const test of this.#required) if (!passes(test, node)) return test.term;
    return undefined;
  }

  /** The first anti-affinity that closes a node. */
  conflict(node: number): Conflict | undefined {
    for (const conflict of this.#closed) if (count(conflict, node) > 0) return conflict;
    return undefined;
  }

  /** More is better. Of a node that may have it. */
  score(node: number): number {
    return this.gain(node) - this.penalty(node);
  }

  gain(node: number): number {
    const load = this.#table.loadWith(node, this.wanted.resources);
    return weights.load * (this.wanted.policy === "spread" ? 1 - load : load) + this.bonus(node);
  }

  /** For what the node has besides room. */
  bonus(node: number): number {
    let bonus = this.#image?.has(node) ? weights.image : 0;
    for (const preference of this.#preferred) if (passes(preference, node)) bonus += weights.preferred * preference.share;
    return bonus;
  }

  /** For the VMs in the node's failure domains. */
  penalty(node: number): number {
    let vms = 0;
    for (const counted of this.#spread) vms += count(counted, node);
    return weights.spread * vms;
  }

  /** No node of this load or a worse one gains more. */
  mostGain(load: number): number {
    const extra = (this.#preferred.length > 0 ? weights.preferred : 0) + (this.#image ? weights.image : 0);
    return weights.load * (this.wanted.policy === "spread" ? 1 - load : 1) + extra;
  }
}

function count({ index, counts }: Counted, node: number): number {
  return counts.get(index ? index.idOf(node) : node) ?? 0;
}

function passes({ term: { op }, index, ids }: Test, node: number): boolean {
  const id = index.idOf(node);
  switch (op) {
    case "in":
      return id !== unset && ids.includes(id);
    case "not-in":
      return id === unset || !ids.includes(id);
    case "exists":
      return id !== unset;
    case "absent":
      return id === unset;
  }
}

/** Whether a value of a label is what a term wants of it. */
export function admits(term: LabelTerm, value: string): boolean {
  return "values" in term ? term.values.includes(value) === (term.op === "in") : term.op === "exists";
}
