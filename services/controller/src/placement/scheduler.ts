// Chooses a node for a VM out of a fleet. Pure: the same fleet, VM and seed make the same choice.
//
// Looked at are: the nodes of the failure domains with the fewest VMs of the group, or else those that satisfy the rarest requirement;
// those with a preferred label; those with the image. Of each so many, in order of load from the policy's end and then by chance, so
// that the cost does not grow with the fleet. When none of them may have the VM, every node is looked at, so that a VM for which there
// is a node always gets one.
import type { Fleet } from "./fleet.ts";
import { mix } from "./node-table.ts";
import { unset } from "./label-index.ts";
import type { Pool } from "./pool.ts";
import { admits, Query } from "./query.ts";
import { resources, type LabelTerm, type Wanted } from "./wanted.ts";

/**
 * How many nodes are looked at: in order of load, the first in full and the next only if they have what is preferred; and by chance.
 * Less when no better one can follow.
 */
interface Limit {
  readonly near: number;
  readonly far: number;
  readonly sample: number;
}
const limits = {
  main: { near: 12, far: 160, sample: 16 },
  preferred: { near: 6, far: 0, sample: 2 },
  image: { near: 0, far: 0, sample: 8 },
} as const satisfies Record<string, Limit>;

/** Values of a label that are looked at. */
const maxValues = 32;
const maxPreferences = 4;
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
  return new Search(fleet, wanted, seed).scan([fleet.open]);
}

class Search {
  readonly #fleet: Fleet;
  readonly #wanted: Wanted;
  readonly #query: Query;
  readonly #seed: number;
  /** The load from which bin-pack begins. */
  readonly #fullest: number;
  #drawn = 0;
  #best: number | undefined;
  #score = -Infinity;
  /** What of the score is not the penalty. */
  #gain = -Infinity;
  #bonus = -Infinity;

  constructor(fleet: Fleet, wanted: Wanted, seed: number) {
    this.#fleet = fleet;
    this.#wanted = wanted;
    this.#query = new Query(fleet, wanted);
    this.#seed = seed;
    this.#fullest = wanted.policy === "spread" ? 1 : this.#loadWithRoom();
  }

  run(): Choice | undefined {
    const rarest = this.#rarest();
    for (const pools of this.#leastUsedDomains()) this.#lookIn(pools, limits.main);
    if (this.#best === undefined) this.#lookIn(rarest, limits.main);
    for (const pools of this.#mostPreferred()) this.#lookIn(pools, limits.preferred);
    const image = this.#fleet.image(this.#wanted.image);
    if (image) this.#lookIn([image.pool], limits.image);
    return this.#choice() ?? this.scan(rarest);
  }

  scan(pools: readonly Pool[]): Choice | undefined {
    for (const pool of pools) for (let n = 0; n < pool.size; n++) this.#consider(pool.at(n));
    return this.#choice();
  }

  #choice(): Choice | undefined {
    return this.#best === undefined ? undefined : { nodeId: this.#fleet.table.id(this.#best), score: this.#score };
  }

  /** The smallest set of pools that hold all nodes which satisfy some requirement. */
  #rarest(): readonly Pool[] {
    const size = (pools: readonly Pool[]): number => pools.reduce((sum, pool) => sum + pool.size, 0);
    return this.#wanted.required
      .flatMap((term) => [this.#satisfying(term)])
      .reduce<readonly Pool[]>((least, pools) => (pools && size(pools) < size(least) ? pools : least), [this.#fleet.open]);
  }

  /** The pools of the nodes that satisfy a term; undefined when those would not narrow the choice. */
  #satisfying(term: LabelTerm): Pool[] | undefined {
    if (term.op === "not-in" || term.op === "absent") return undefined;
    const index = this.#fleet.labels(term.key);
    const values = term.op === "in" ? [...new Set(term.values)] : index.openValues;
    if (term.op === "exists" && values.length > maxValues) return undefined; // host names, for one
    return values.flatMap((value) => index.pool(value) ?? []);
  }

  /** For each group that is to be spread or kept apart: the nodes of the failure domains with the fewest VMs of it. */
  #leastUsedDomains(): Pool[][] {
    const { spread, antiAffinity, required, project } = this.#wanted;
    return [...spread, ...antiAffinity].flatMap((group) => {
      if (group.domain === "") return [];
      const index = this.#fleet.labels(group.domain);
      const counts = this.#fleet.groups.members(project, group)?.by(group.domain);
      let [least, pools]: [number, Pool[]] = [Infinity, []];
      for (const value of this.#some(index.openValues, maxValues)) {
        const [pool, count] = [index.pool(value), counts?.get(index.id(value) ?? unset) ?? 0];
        if (!pool || count > least || required.some((term) => term.key === group.domain && !admits(term, value))) continue;
        if (count < least) [least, pools] = [count, []];
        pools.push(pool);
      }
      return pools.length > 0 ? [pools] : [];
    });
  }

  #mostPreferred(): (readonly Pool[])[] {
    return this.#wanted.preferred
      .toSorted((a, b) => b.weight - a.weight)
      .slice(0, maxPreferences)
      .map(({ term }) => this.#satisfying(term) ?? []);
  }

  #lookIn(pools: readonly Pool[], { near, far, sample }: Limit): void {
    const share = (of: number): number => Math.ceil(of / pools.length);
    const each = { near: share(near), far: share(far), sample: share(sample) };
    for (const pool of this.#some(pools, near + sample)) this.#look(pool, each);
  }

  /** Looks at the nodes of a pool where the policy's best begin, then at any. */
  #look(pool: Pool, { near, far, sample }: Limit): void {
    const spread = this.#wanted.policy === "spread";
    const { table } = this.#fleet;
    const end = spread || near === 0 ? pool.size : pool.countUpTo(this.#fullest);
    const last = Math.min(near + far, end);
    for (let n = 0; n < last; n++) {
      const node = pool.at(spread ? n : end - 1 - n);
      if (n < near || this.#query.bonus(node) > this.#bonus) this.#consider(node);
      else if (n % near === 0 && this.#query.mostGain(table.load(node)) < this.#gain) return;
    }
    if (spread && near > 0 && this.#best !== undefined) return; // it was better
    const rest = end > near ? end : pool.size;
    if (rest > near) for (let n = 0; n < sample; n++) this.#consider(pool.at(this.#draw(rest)));
  }

  /** Takes the node if it is better than the best and may have the VM. */
  #consider(node: number): void {
    const gain = this.#query.gain(node);
    const score = gain - this.#query.penalty(node);
    if (score < this.#score || (score === this.#score && this.#best !== undefined && !this.#isBefore(node, this.#best))) return;
    if (!this.#query.allows(node)) return;
    this.#best = node;
    this.#score = score;
    this.#gain = gain;
    this.#bonus = this.#query.bonus(node);
  }

  #isBefore(a: number, b: number): boolean {
    const { table } = this.#fleet;
    const [hashA, hashB] = [mix(table.hash(a), this.#seed), mix(table.hash(b), this.#seed)];
    return hashA === hashB ? table.id(a) < table.id(b) : hashA < hashB;
  }

  /** All, or so many at equal distances; the first is drawn. */
  #some<T>(all: readonly T[], most: number): T[] {
    const count = Math.min(all.length, most);
    const start = count > 1 ? this.#draw(all.length) : 0;
    const some: T[] = [];
    for (let n = 0; n < count; n++) {
      const item = all[(start + Math.floor((n * all.length) / count)) % all.length];
      if (item !== undefined) some.push(item);
    }
    return some;
  }

  /** The load up to which the larger nodes have room, whatever it is that they have least of. */
  #loadWithRoom(): number {
    const { open, table } = this.#fleet;
    let room = 0;
    for (let n = 0; n < Math.min(sizesSeen, open.size); n++) {
      const node = open.at(this.#draw(open.size));
      const most = Math.max(...resources.map((resource) => this.#wanted.resources[resource] / Math.max(table.limit(node, resource), 1)));
      room = Math.max(room, 1 - most);
    }
    return room;
  }

  #draw(below: number): number {
    return mix(++this.#drawn, this.#seed) % below;
  }
}
