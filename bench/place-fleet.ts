// A made-up fleet for the benchmark of placement: nodes of three sizes in zones and racks, and VMs of every kind that come and go.
import { Fleet } from "@pitwall/controller/src/placement/fleet.ts";
import { place } from "@pitwall/controller/src/placement/scheduler.ts";
import type { Group, NodeFacts, Policy, PlacedVm, Wanted } from "@pitwall/controller/src/placement/wanted.ts";

const gib = 2 ** 30;
const nodesPerRack = 40;
/** The same in all fleets, as are the VMs wanted: what differs is the number of nodes. */
const projectCount = 100;
const imageCount = 200;
const imagesPerNode = 20;
const cpuOvercommit = 2;

/** Repeatable numbers from 0 up to 1 (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class BenchFleet {
  readonly fleet = new Fleet();
  readonly nodeCount: number;
  readonly #policy: Policy;
  readonly #random: () => number;
  readonly #vmIds: string[] = [];
  readonly #memBytes: number;
  #usedMemBytes = 0;
  readonly #vmMemBytes = new Map<string, number>();
  #made = 0;
  refused = 0;

  constructor(nodeCount: number, policy: Policy, seed: number) {
    this.nodeCount = nodeCount;
    this.#policy = policy;
    this.#random = randomFrom(seed);
    const nodes = Array.from({ length: nodeCount }, (_, n) => this.#node(n));
    for (const node of nodes) this.fleet.setNode(node);
    this.#memBytes = nodes.reduce((sum, { capacity }) => sum + capacity.memBytes, 0);
  }

  /** Share of all memory that is taken. */
  get fill(): number {
    return this.#usedMemBytes / this.#memBytes;
  }

  get vmCount(): number {
    return this.#vmIds.length;
  }

  /** VMs come, and for every three of them one goes, until so much of the memory is taken. */
  fillTo(share: number): void {
    while (this.fill < share) {
      this.decide(this.wanted());
      if (this.#random() < 1 / 3) this.dropOne();
    }
  }

  /** One decision and what it does to the index. */
  decide(wanted: Wanted): void {
    const seed = ++this.#made;
    const choice = place(this.fleet, wanted, seed);
    if (!choice) {
      this.refused++;
      return;
    }
    const id = `vm-${seed}`;
    const { project, labels, resources, antiAffinity } = wanted;
    const vm: PlacedVm = { id, nodeId: choice.nodeId, project, labels, resources, antiAffinity };
    this.fleet.place(vm);
    this.#vmIds.push(id);
    this.#vmMemBytes.set(id, resources.memBytes);
    this.#usedMemBytes += resources.memBytes;
  }

  /** Any one of the VMs goes. */
  dropOne(): void {
    const at = Math.floor(this.#random() * this.#vmIds.length);
    const [id, last] = [this.#vmIds[at], this.#vmIds.pop()];
    if (id === undefined || last === undefined) return;
    if (at < this.#vmIds.length) this.#vmIds[at] = last;
    this.fleet.remove(id);
    this.#usedMemBytes -= this.#vmMemBytes.get(id) ?? 0;
    this.#vmMemBytes.delete(id);
  }

  /** A VM that somebody may want. */
  wanted(): Wanted {
    const size = 2 ** Math.floor(this.#random() * 6); // 1 to 32
    const project = `project-${Math.floor(this.#random() * projectCount)}`;
    const app = { key: "app", value: `app-${Math.floor(this.#random() * 20)}` };
    const byNode: Group = { label: app, domain: "" };
    const required = [{ op: "in" as const, key: "arch", values: [this.#is(0.9) ? "amd64" : "arm64"] }];
    return {
      project,
      labels: { [app.key]: app.value },
      resources: { cpuMillis: 250 * size, memBytes: gib * size * this.#oneOf([0.5, 1, 2]), diskBytes: gib * this.#oneOf([4, 20, 100]) },
      antiAffinity: this.#is(0.3) ? [byNode] : [],
      required: [
        ...required,
        ...(this.#is(0.1) ? [{ op: "in" as const, key: "disk", values: ["ssd"] }] : []),
        ...(this.#is(0.02) ? [{ op: "exists" as const, key: "gpu" }] : [{ op: "absent" as const, key: "gpu" }]),
      ],
      preferred: this.#is(0.3) ? [{ term: { op: "in", key: "disk", values: ["ssd"] }, weight: 10 }] : [],
      spread: [{ label: app, domain: "zone" }],
      policy: this.#policy,
      image: this.#image(),
    };
  }

  #node(n: number): NodeFacts {
    const cores = this.#oneOf([32, 64, 96]);
    return {
      id: `node-${n}`,
      ready: !this.#is(0.01),
      cordoned: this.#is(0.01),
      capacity: { cpuMillis: cores * 1000 * cpuOvercommit, memBytes: cores * 4 * gib, diskBytes: cores * 64 * gib },
      labels: {
        host: `node-${n}`,
        zone: `zone-${n % 3}`,
        rack: `rack-${Math.floor(n / nodesPerRack)}`,
        arch: this.#is(0.9) ? "amd64" : "arm64",
        disk: this.#is(0.7) ? "ssd" : "hdd",
        ...(this.#is(0.04) ? { gpu: "l4" } : {}),
      },
      images: [...new Set(Array.from({ length: imagesPerNode }, () => this.#image()))],
    };
  }

  /** Few images are wanted by many. */
  #image(): string {
    return `sha256:${Math.floor(imageCount * this.#random() ** 3)}`;
  }

  #is(share: number): boolean {
    return this.#random() < share;
  }

  #oneOf<T>(of: readonly [T, ...T[]]): T {
    return of[Math.floor(this.#random() * of.length)] ?? of[0];
  }
}
