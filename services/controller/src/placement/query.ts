// What a VM asks for, against what the fleet holds right now: may a node have it, and how good would that be.
//
// Made for one decision; everything that is looked up by a name is looked up once, since many nodes are asked. What is the same for all
// nodes of a class (a label with few values) is asked apart from what is a node's own.
import type { Counts } from "./counts.ts";
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
  readonly counts: Counts;
}

/** Why a node is closed to a VM. The group is undefined when another's anti-affinity closes it. */
export interface Conflict extends Counted {
  readonly domain: string;
  readonly group: Group | undefined;
}

/** What is asked of a class, and what of each node. */
interface Parts<T> {
  readonly ofClass: readonly T[];
  readonly ofNode: readonly T[];
}

export class Query {
  readonly wanted: Wanted;
  /** The most that a node can have of its own. */
  readonly mostOwn: number;
  readonly #table: NodeTable;
  readonly #required: Parts<Test>;
  readonly #preferred: Parts<Test & { readonly share: number }>;
  readonly #closed: Parts<Conflict>;
  readonly #spread: Parts<Counted>;
  readonly #image: ImageIndex | undefined;
  readonly #ownIsImage: boolean;

  constructor(fleet: Fleet, wanted: Wanted) {
    const { project, required, preferred, antiAffinity, spread, image } = wanted;
    const test = (term: LabelTerm): Test => {
      const index = fleet.labels(term.key);
      return { term, index, ids: "values" in term ? term.values.flatMap((value) => index.id(value) ?? []) : [] };
    };
    const conflict = (tally: Tally, domain: string, group: Group | undefined): Conflict => ({
      index: domain === "" ? undefined : fleet.labels(domain),
      counts: tally.by(domain),
      domain,
      group,
    });
    const own = (group: Group): Conflict[] => {
      const tally = fleet.groups.members(project, group);
      return tally ? [conflict(tally, group.domain, group)] : [];
    };
    const keepers = fleet.groups.keepers(wanted).map(({ domain, tally }) => conflict(tally, domain, undefined));
    const weight = preferred.reduce((all, preference) => all + preference.weight, 0);
    this.wanted = wanted;
    this.#table = fleet.table;
    this.#required = parts(required.map(test));
    this.#preferred = parts(preferred.map((preference) => ({ ...test(preference.term), share: preference.weight / weight })));
    // In an order that does not tell who came first.
    this.#closed = parts([...antiAffinity.flatMap(own), ...keepers.toSorted((a, b) => (a.domain < b.domain ? -1 : 1))]);
    this.#spread = parts(spread.flatMap(own));
    this.#image = image === "" ? undefined : fleet.image(image);
    this.#ownIsImage = this.#preferred.ofNode.length === 0 && this.#spread.ofNode.length === 0;
    this.mostOwn = (this.#image ? weights.image : 0) + (this.#preferred.ofNode.length > 0 ? weights.preferred : 0);
  }

  /** Whether a node's class may have it. */
  admits(node: number): boolean {
    return failed(this.#required.ofClass, node) === undefined && standing(this.#closed.ofClass, node) === undefined;
  }

  /** Whether an open node of a class that may have it may, too. */
  allows(node: number): boolean {
    return (
      this.#table.fits(node, this.wanted.resources) &&
      failed(this.#required.ofNode, node) === undefined &&
      standing(this.#closed.ofNode, node) === undefined
    );
  }

  failedTerm(node: number): LabelTerm | undefined {
    return (failed(this.#required.ofClass, node) ?? failed(this.#required.ofNode, node))?.term;
  }

  /** An anti-affinity that closes a node. */
  conflict(node: number): Conflict | undefined {
    return standing(this.#closed.ofClass, node) ?? standing(this.#closed.ofNode, node);
  }

  /** More is better. Of a node that may have it: three numbers, added in this order wherever scores are compared. */
  score(node: number): number {
    return this.load(node) + this.ofClass(node) + this.own(node);
  }

  load(node: number): number {
    const load = this.#table.loadWith(node, this.wanted.resources);
    return weights.load * (this.wanted.policy === "spread" ? 1 - load : load);
  }

  /** The same for all nodes of a class. */
  ofClass(node: number): number {
    return sum(this.#preferred.ofClass, this.#spread.ofClass, node);
  }

  own(node: number): number {
    const forImage = this.#image?.has(node) ? weights.image : 0;
    return this.#ownIsImage ? forImage : forImage + sum(this.#preferred.ofNode, this.#spread.ofNode, node);
  }

  /** The most for load to a node that has this load already. */
  mostForLoad(load: number): number {
    return weights.load * (this.wanted.policy === "spread" ? 1 - load : 1);
  }
}

/** A label that has many values, and a node as a domain, are the node's own. */
function parts<T extends { readonly index: LabelIndex | undefined }>(all: readonly T[]): Parts<T> {
  const isOfClass = ({ index }: T): boolean => index?.isWide === false;
  return { ofClass: all.filter(isOfClass), ofNode: all.filter((one) => !isOfClass(one)) };
}

function failed(tests: readonly Test[], node: number): Test | undefined {
  for (const test of tests) if (!passes(test, node)) return test;
  return undefined;
}

function standing(conflicts: readonly Conflict[], node: number): Conflict | undefined {
  for (const conflict of conflicts) if (count(conflict, node) > 0) return conflict;
  return undefined;
}

function sum(preferred: readonly (Test & { readonly share: number })[], spread: readonly Counted[], node: number): number {
  let total = 0;
  for (const preference of preferred) if (passes(preference, node)) total += weights.preferred * preference.share;
  for (const counted of spread) total -= weights.spread * count(counted, node);
  return total;
}

function count({ index, counts }: Counted, node: number): number {
  return counts.of(index ? index.idOf(node) : node);
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
