// Chooses a node for a VM out of a fleet. Pure: the same fleet, VM and seed make the same choice.
//
// Classes of nodes are judged as one: those that may not have the VM are left out, and the others looked into from the best on, until no
// better node can follow. Of each class so many nodes are looked at, in order of load from the policy's end and then by chance, so that
// the cost does not grow with the fleet. What classes do not know (labels with many values, images) is asked of pools of its own. When no
// node looked at may have the VM, every node is, so that a VM for which there is a node always gets one.
import type { Fleet } from "./fleet.ts";
import { unset } from "./label-index.ts";
import { mix } from "./node-table.ts";
import type { Pool } from "./pool.ts";
import { Query } from "./query.ts";
import { resources, type LabelTerm, type Wanted } from "./wanted.ts";

/**
 * How many nodes are looked at in order of load (the first in full, the next only if they have more of their own than the best, the
 * image for one) and by chance. As many for all classes that are equally good together.
 */
interface Limit {
  readonly near: number;
  readonly far: number;
  readonly sample: number;
}
const limits = {
  classes: { near: 10, far: 80, sample: 16 },
  narrowed: { near: 48, far: 0, sample: 24 },
  side: { near: 6, far: 0, sample: 4 },
  image: { near: 0, far: 0, sample: 6 },
} as const satisfies Record<string, Limit>;

/** Values of a label with many, and classes that are equally good, that are looked at. */
const mostValues = 32;
const mostClasses = 16;
/** Nodes from which the size of the largest is guessed. */
const sizesSeen = 4;

export interface Choice {
  readonly nodeId: string;
  /** Comparable within one decision only. */
  readonly score: number;
}

/** The best of the nodes compared; undefined when no node may have the VM. `seed`, any whole number, decides between equals. */
export function place(fleet: Fleet, wanted: Wanted, seed: number): Choice | undefined {
  return new Search(fleet, wanted, seed).run();
}

/** The best of all nodes; looks at each. */
export function placeByScan(fleet: Fleet, wanted: Wanted, seed: number): Choice | undefined {
  return new Search(fleet, wanted, seed).scan(fleet.classes);
}

/** A class that may have the VM, with what it is worth. */
interface Rated {
  readonly pool: Pool;
  readonly worth: number;
}

class Search {
  readonly #fleet: Fleet;
  readonly #wanted: Wanted;
  readonly #query: Query;
  readonly #seed: number;
  /** The load from which bin-pack begins; guessed when it is needed. */
  #fullest: number | undefined;
  #drawn = 0;
  #best: number | undefined;
  #score = -Infinity;
  /** What of the score is not for load. */
  #besides = -Infinity;

  constructor(fleet: Fleet, wanted: Wanted, seed: number) {
    this.#fleet = fleet;
    this.#wanted = wanted;
    this.#query = new Query(fleet, wanted);
    this.#seed = seed;
  }

  run(): Choice | undefined {
    const narrowed = this.#rarest();
    if (narrowed) {
      this.#lookIn(narrowed, limits.narrowed);
      return this.#choice() ?? this.scan(narrowed);
    }
    const classes = this.#admitted();
    for (const pools of this.#sides()) this.#lookIn(pools, limits.side);
    this.#lookInto(classes);
    const image = this.#fleet.image(this.#wanted.image);
    if (image) this.#lookIn([image.pool], limits.image);
    return this.#choice() ?? this.scan(classes.map(({ pool }) => pool));
  }

  scan(pools: readonly Pool[]): Choice | undefined {
    for (const pool of pools) for (let n = 0; n < pool.size; n++) this.#consider(pool.at(n));
    return this.#choice();
  }

  #choice(): Choice | undefined {
    return this.#best === undefined ? undefined : { nodeId: this.#fleet.table.id(this.#best), score: this.#score };
  }

  /** The classes that may have the VM, best first. */
  #admitted(): Rated[] {
    const rated: Rated[] = [];
    for (const pool of this.#fleet.classes) {
      const node = pool.at(0);
      if (this.#query.admits(node)) rated.push({ pool, worth: this.#query.ofClass(node) });
    }
    return rated.toSorted((a, b) => b.worth - a.worth);
  }

  /** Classes that are equally good are looked into together. */
  #lookInto(classes: readonly Rated[]): void {
    for (let from = 0; from < classes.length;) {
      const worth = classes[from]?.worth ?? 0;
      if (this.#query.mostForLoad(0) + worth + this.#query.mostOwn < this.#score) return;
      let to = from + 1;
      while (classes[to]?.worth === worth) to++;
      const pools = this.#some(classes.slice(from, to), mostClasses);
      const { near, far, sample } = share(limits.classes, pools.length);
      for (const { pool } of pools) this.#look(pool, { near, far, sample }, worth);
      from = to;
    }
  }

  /** The smallest set of nodes that satisfy a requirement of a label with many values; undefined when there is no such requirement. */
  #rarest(): readonly Pool[] | undefined {
    const size = (pools: readonly Pool[]): number => pools.reduce((sum, pool) => sum + pool.size, 0);
    return this.#wanted.required
      .flatMap((term) => (term.op === "in" && this.#fleet.labels(term.key).isWide ? [this.#having(term)] : []))
      .reduce<readonly Pool[] | undefined>((least, pools) => (!least || size(pools) < size(least) ? pools : least), undefined);
  }

  #having(term: LabelTerm): Pool[] {
    const index = this.#fleet.labels(term.key);
    return term.op === "in" ? [...new Set(term.values)].flatMap((value) => index.pool(value) ?? []) : [];
  }

  /** Of labels with many values: the nodes with one that is preferred, and those of the failure domains with the fewest VMs of a group. */
  #sides(): Pool[][] {
    const { spread, antiAffinity, preferred, project } = this.#wanted;
    const preferring = preferred.filter(({ term }) => this.#fleet.labels(term.key).isWide).map(({ term }) => this.#having(term));
    const domains = [...spread, ...antiAffinity].filter(({ domain }) => domain !== "" && this.#fleet.labels(domain).isWide);
    return [
      ...domains.map((group) => {
        const index = this.#fleet.labels(group.domain);
        const counts = this.#fleet.groups.members(project, group)?.by(group.domain);
        const values = this.#some(index.openValues, mostValues).map((value) => [value, counts?.of(index.id(value) ?? unset) ?? 0] as const);
        const least = values.reduce((min, [, count]) => Math.min(min, count), Infinity);
        return values.flatMap(([value, count]) => (count === least ? (index.pool(value) ?? []) : []));
      }),
      ...preferring,
    ];
  }

  #lookIn(pools: readonly Pool[], limit: Limit): void {
    const some = this.#some(pools, limit.near + limit.sample);
    for (const pool of some) this.#look(pool, share(limit, some.length));
  }

  /** Looks at the nodes of a pool where the policy's best begin, then at any. Of a class, what it is worth. */
  #look(pool: Pool, { near, far, sample }: Limit, worth?: number): void {
    const spread = this.#wanted.policy === "spread";
    const query = this.#query;
    const end = spread || near === 0 ? pool.size : pool.countUpTo((this.#fullest ??= this.#loadWithRoom(pool)));
    for (let n = 0; n < Math.min(near, end); n++) {
      const at = spread ? n : end - 1 - n;
      if (worth !== undefined && query.mostForLoad(pool.loadAt(at)) + worth + query.mostOwn < this.#score) return;
      this.#consider(pool.at(at), worth);
    }
    for (let n = near; worth !== undefined && n < Math.min(near + far, end) && worth + query.mostOwn > this.#besides; n++) {
      const node = pool.at(spread ? n : end - 1 - n);
      if (worth + query.own(node) > this.#besides) this.#consider(node, worth);
    }
    if (near > 0 && this.#best !== undefined) return; // the rest is worse
    const rest = end > near ? end : pool.size;
    if (rest > near) for (let n = 0; n < sample; n++) this.#consider(pool.at(this.#draw(rest)), worth);
  }

  /** Takes the node if it is better than the best and may have the VM. What its class is worth is given when the class may have it. */
  #consider(node: number, worth?: number): void {
    const query = this.#query;
    const load = query.load(node);
    const ofClass = worth ?? query.ofClass(node);
    const own = query.own(node);
    const score = load + ofClass + own;
    if (score < this.#score || (score === this.#score && this.#best !== undefined && !this.#isBefore(node, this.#best))) return;
    if (!query.allows(node) || (worth === undefined && !query.admits(node))) return;
    this.#best = node;
    this.#score = score;
    this.#besides = ofClass + own;
  }

  #isBefore(a: number, b: number): boolean {
    const { table } = this.#fleet;
    const [hashA, hashB] = [mix(table.hash(a), this.#seed), mix(table.hash(b), this.#seed)];
    return hashA === hashB ? table.id(a) < table.id(b) : hashA < hashB;
  }

  /** All, or so many at equal distances; the first is drawn. */
  #some<T>(all: readonly T[], most: number): readonly T[] {
    if (all.length <= most) return all;
    const start = this.#draw(all.length);
    const some: T[] = [];
    for (let n = 0; n < most; n++) {
      const item = all[(start + Math.floor((n * all.length) / most)) % all.length];
      if (item !== undefined) some.push(item);
    }
    return some;
  }

  /** The load up to which the larger nodes have room, whatever it is that they have least of. */
  #loadWithRoom(pool: Pool): number {
    const { table } = this.#fleet;
    let room = 0;
    for (let n = 0; n < sizesSeen; n++) {
      const node = pool.at(Math.floor((n * pool.size) / sizesSeen)); // not drawn: these are at hand when the next VM comes
      let most = 0;
      for (const resource of resources) most = Math.max(most, this.#wanted.resources[resource] / Math.max(table.limit(node, resource), 1));
      room = Math.max(room, 1 - most);
    }
    return room;
  }

  #draw(below: number): number {
    return mix(++this.#drawn, this.#seed) % below;
  }
}

function share({ near, far, sample }: Limit, pools: number): Limit {
  const each = (of: number): number => Math.ceil(of / pools);
  return { near: each(near), far: each(far), sample: each(sample) };
}
