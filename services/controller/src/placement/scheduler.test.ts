// The scheduler against a model that keeps nothing but lists and counts everything anew.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { explain } from "./explain.ts";
import { Fleet } from "./fleet.ts";
import { place, placeByScan } from "./scheduler.ts";
import { resources, type Group, type LabelTerm, type NodeFacts, type PlacedVm, type Wanted } from "./wanted.ts";

// The model.

interface Model {
  readonly nodes: Map<string, NodeFacts>;
  readonly vms: Map<string, PlacedVm>;
}

const domainOf = (node: NodeFacts, domain: string): string => (domain === "" ? `id ${node.id}` : `is ${node.labels[domain] ?? ""}`);
const isIn = (vm: Pick<PlacedVm, "project" | "labels">, project: string, { label }: Group): boolean =>
  vm.project === project && (!label || vm.labels[label.key] === label.value);
const holds = (node: NodeFacts, term: LabelTerm): boolean => {
  const value = node.labels[term.key];
  if (term.op === "exists") return value !== undefined;
  if (term.op === "absent") return value === undefined;
  return "values" in term && (value !== undefined && term.values.includes(value)) === (term.op === "in");
};
const room = ({ vms }: Model, node: NodeFacts, wanted: Wanted): boolean =>
  resources.every((resource) => {
    const used = [...vms.values()].filter(({ nodeId }) => nodeId === node.id).reduce((sum, vm) => sum + vm.resources[resource], 0);
    return used + wanted.resources[resource] <= Math.floor(node.capacity[resource] * node.overcommit[resource]);
  });
const isKeptAway = ({ nodes, vms }: Model, node: NodeFacts, wanted: Wanted): boolean =>
  [...vms.values()].some((vm) => {
    const other = nodes.get(vm.nodeId)!;
    const isClose = ({ domain }: Group): boolean => domainOf(other, domain) === domainOf(node, domain);
    const mine = wanted.antiAffinity.some((group) => isIn(vm, wanted.project, group) && isClose(group));
    return mine || vm.antiAffinity.some((group) => isIn(wanted, vm.project, group) && isClose(group));
  });
const mayHave = (model: Model, node: NodeFacts, wanted: Wanted): boolean =>
  node.ready &&
  !node.cordoned &&
  wanted.required.every((term) => holds(node, term)) &&
  room(model, node, wanted) &&
  !isKeptAway(model, node, wanted);

// What it is fed with.

const amounts = (max: number): fc.Arbitrary<PlacedVm["resources"]> =>
  fc.record({ cpuMillis: fc.nat(max), memBytes: fc.nat(max), diskBytes: fc.nat(max) });
const label = fc.constantFrom("a", "b", "c");
const nodeLabels = fc.dictionary(fc.constantFrom("zone", "rack", "gpu"), label);
const vmLabels = fc.dictionary(fc.constantFrom("app", "tier"), label);
const term: fc.Arbitrary<LabelTerm> = fc.oneof(
  fc.record({
    op: fc.constantFrom("in", "not-in"),
    key: fc.constantFrom("zone", "rack", "gpu"),
    values: fc.array(label, { maxLength: 2 }),
  }),
  fc.record({ op: fc.constantFrom("exists", "absent"), key: fc.constantFrom("zone", "rack", "gpu") }),
);
const group: fc.Arbitrary<Group> = fc.record(
  { label: fc.record({ key: fc.constantFrom("app", "tier"), value: label }), domain: fc.constantFrom("", "zone", "rack") },
  { requiredKeys: ["domain"] },
);
const few = <T>(of: fc.Arbitrary<T>): fc.Arbitrary<T[]> =>
  fc.oneof({ weight: 2, arbitrary: fc.constant<T[]>([]) }, fc.array(of, { maxLength: 2 }));
const ratio = fc.constantFrom(1, 1, 1.5, 2, 0.3);
const facts = (id: fc.Arbitrary<string>): fc.Arbitrary<NodeFacts> =>
  fc.record({
    id,
    ready: fc.integer({ max: 5, min: 0 }).map((n) => n > 0),
    cordoned: fc.integer({ max: 5, min: 0 }).map((n) => n === 0),
    capacity: amounts(40),
    overcommit: fc.record({ cpuMillis: ratio, memBytes: ratio, diskBytes: ratio }),
    labels: nodeLabels,
    images: few(label),
  });
const wanted: fc.Arbitrary<Wanted> = fc.record({
  project: fc.constantFrom("p", "q"),
  labels: vmLabels,
  resources: amounts(12),
  antiAffinity: few(group),
  required: few(term),
  preferred: few(fc.record({ term, weight: fc.integer({ min: 1, max: 100 }) })),
  spread: few(group),
  policy: fc.constantFrom("spread", "bin-pack"),
  image: fc.constantFrom("", "a", "b"),
});

const nodeId = fc.integer({ min: 0, max: 9 }).map((n) => `n${n}`);
type Step =
  | { readonly kind: "node"; readonly node: NodeFacts }
  | { readonly kind: "remove-node"; readonly id: string }
  | { readonly kind: "create"; readonly wanted: Wanted; readonly seed: number }
  | { readonly kind: "found"; readonly wanted: Wanted; readonly at: number }
  | { readonly kind: "delete"; readonly at: number };
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("node" as const), node: facts(nodeId) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("remove-node" as const), id: nodeId }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("create" as const), wanted, seed: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("found" as const), wanted, at: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("delete" as const), at: fc.nat() }) },
);

/** Takes a step in both. A VM is created where the scheduler says, and found where nobody has asked. */
function take(fleet: Fleet, model: Model, next: Step, count: number): void {
  const put = (vm: PlacedVm): void => {
    fleet.place(vm);
    model.vms.set(vm.id, vm);
  };
  const ids = [...model.nodes.keys()];
  switch (next.kind) {
    case "node":
      fleet.setNode(next.node);
      model.nodes.set(next.node.id, next.node);
      break;
    case "remove-node":
      fleet.removeNode(next.id);
      model.nodes.delete(next.id);
      for (const vm of [...model.vms.values()]) if (vm.nodeId === next.id) model.vms.delete(vm.id);
      break;
    case "create": {
      const choice = place(fleet, next.wanted, next.seed);
      if (choice) put({ ...next.wanted, id: `v${count}`, nodeId: choice.nodeId });
      break;
    }
    case "found":
      if (ids.length > 0) put({ ...next.wanted, id: `v${next.at % 20}`, nodeId: ids[next.at % ids.length]! });
      break;
    case "delete": {
      const id = [...model.vms.keys()][next.at % Math.max(model.vms.size, 1)];
      fleet.remove(id ?? "v-unknown");
      if (id) model.vms.delete(id);
    }
  }
}

function history(steps: readonly Step[]): { fleet: Fleet; model: Model } {
  const [fleet, model] = [new Fleet(), { nodes: new Map<string, NodeFacts>(), vms: new Map<string, PlacedVm>() }];
  for (const [count, next] of steps.entries()) take(fleet, model, next, 100 + count);
  return { fleet, model };
}

/** The same nodes and VMs, put into a new fleet in another order. */
function rebuilt({ nodes, vms }: Model): Fleet {
  const fleet = new Fleet();
  for (const node of [...nodes.values()].toSorted((a, b) => (a.id < b.id ? 1 : -1))) fleet.setNode(node);
  for (const vm of [...vms.values()].toSorted((a, b) => (a.id < b.id ? 1 : -1))) fleet.place(vm);
  return fleet;
}

const steps = fc.array(step, { minLength: 10, maxLength: 60 });
const runs = { numRuns: 150 };

describe("of any history", () => {
  it("a node chosen may have the VM, and one is chosen whenever there is one", () => {
    fc.assert(
      fc.property(steps, wanted, fc.nat(), (past, vm, seed) => {
        const { fleet, model } = history(past);
        const able = [...model.nodes.values()].filter((node) => mayHave(model, node, vm)).map(({ id }) => id);
        const chosen = place(fleet, vm, seed);
        expect(able.length > 0 ? able : [undefined]).toContain(chosen?.nodeId);
      }),
      runs,
    );
  });

  it("no node gives away more than it has", () => {
    fc.assert(
      fc.property(
        steps.map((past) => past.filter((next) => next.kind === "create" || next.kind === "delete")),
        fc.uniqueArray(facts(nodeId), { minLength: 1, selector: ({ id }) => id }),
        (past, nodes) => {
          const { model } = history([...nodes.map((node) => ({ kind: "node" as const, node })), ...past]);
          const nothing = {
            ...past.find((next) => next.kind === "create")?.wanted,
            resources: { cpuMillis: 0, memBytes: 0, diskBytes: 0 },
          };
          for (const node of nodes) expect(room(model, node, nothing as Wanted)).toBe(true);
        },
      ),
      runs,
    );
  });

  it("the index is what it would be if built anew: same choice, same scan, same reasons", () => {
    fc.assert(
      fc.property(steps, wanted, fc.nat(), (past, vm, seed) => {
        const { fleet, model } = history(past);
        const anew = rebuilt(model);
        const order = ({ open, table }: Fleet): string[] => Array.from({ length: open.size }, (_, n) => table.id(open.at(n)));
        expect(order(fleet)).toEqual(order(anew));
        const chosen = place(fleet, vm, seed);
        expect(place(anew, vm, seed)).toEqual(chosen);
        expect(placeByScan(anew, vm, seed)).toEqual(placeByScan(fleet, vm, seed));
        expect(explain(anew, vm, chosen)).toEqual(explain(fleet, vm, chosen));
      }),
      runs,
    );
  });

  it("each other node has a reason, and it is true", () => {
    fc.assert(
      fc.property(steps, wanted, fc.nat(), (past, vm, seed) => {
        const { fleet, model } = history(past);
        const chosen = place(fleet, vm, seed);
        const reasons = explain(fleet, vm, chosen);
        expect(reasons.map((reason) => reason.nodeId)).toEqual([...model.nodes.keys()].filter((id) => id !== chosen?.nodeId).toSorted());
        for (const { nodeId: id, why } of reasons) {
          const node = model.nodes.get(id)!;
          const truth = {
            "not-ready": !node.ready,
            cordoned: node.cordoned,
            label: vm.required.some((required) => !holds(node, required)),
            "anti-affinity": isKeptAway(model, node, vm),
            "no-room": !room(model, node, vm),
            "scored-lower": chosen !== undefined && mayHave(model, node, vm),
            "not-compared": chosen !== undefined && mayHave(model, node, vm),
          };
          expect(truth[why], why).toBe(true);
        }
      }),
      runs,
    );
  });
});

// A fleet larger than what is looked at.

const big = { cpuMillis: 64_000, memBytes: 2 ** 38, diskBytes: 2 ** 42 };
const once = { cpuMillis: 1, memBytes: 1, diskBytes: 1 };
const someNode = (n: number, more: Partial<NodeFacts> = {}): NodeFacts => ({
  id: `n${n}`,
  ready: true,
  cordoned: false,
  capacity: big,
  overcommit: once,
  labels: { zone: `z${n % 3}` },
  images: [],
  ...more,
});
const plain: Wanted = {
  project: "p",
  labels: {},
  resources: { cpuMillis: 1000, memBytes: 2 ** 30, diskBytes: 2 ** 32 },
  antiAffinity: [],
  required: [],
  preferred: [],
  spread: [],
  policy: "spread",
  image: "",
};
const full = (n: number): PlacedVm => ({ ...plain, id: `full ${n}`, nodeId: `n${n}`, resources: { ...big, memBytes: 0 } });

describe("of a thousand nodes", () => {
  const count = 1000;

  it("the only one with room is found, whichever it is and whatever is asked for", () => {
    fc.assert(
      fc.property(fc.nat(count - 1), fc.constantFrom("spread", "bin-pack"), fc.nat(), (free, policy, seed) => {
        const fleet = new Fleet();
        for (let n = 0; n < count; n++) fleet.setNode(someNode(n));
        for (let n = 0; n < count; n++) if (n !== free) fleet.place(full(n));
        const zone = { domain: "zone" };
        expect(place(fleet, { ...plain, policy, spread: [zone] }, seed)?.nodeId).toBe(`n${free}`);
        expect(place(fleet, { ...plain, policy, antiAffinity: [zone] }, seed)).toBeUndefined();
      }),
      { numRuns: 10 },
    );
  });

  it("a rare label is found without luck", () => {
    const fleet = new Fleet();
    for (let n = 0; n < count; n++) fleet.setNode(someNode(n, n === 700 ? { labels: { gpu: "a100" } } : {}));
    const terms: LabelTerm[] = [
      { op: "exists", key: "gpu" },
      { op: "in", key: "gpu", values: ["a100", "h100"] },
      { op: "absent", key: "zone" },
    ];
    for (const required of terms) expect(place(fleet, { ...plain, required: [required] }, 1)?.nodeId).toBe("n700");
    expect(place(fleet, { ...plain, preferred: [{ term: terms[0]!, weight: 1 }] }, 1)?.nodeId).toBe("n700");
  });

  it("a node with the image is taken, unless it is the fuller by half", () => {
    const fleet = new Fleet();
    for (let n = 0; n < count; n++) fleet.setNode(someNode(n, n === 321 ? { images: ["sha256:1"] } : {}));
    expect(place(fleet, { ...plain, image: "sha256:1" }, 1)?.nodeId).toBe("n321");
    fleet.place({ ...plain, id: "large", nodeId: "n321", resources: { ...plain.resources, cpuMillis: 33_000 } });
    expect(place(fleet, { ...plain, image: "sha256:1" }, 1)?.nodeId).not.toBe("n321");
  });

  it("VMs of a group go round the failure domains", () => {
    const fleet = new Fleet();
    for (let n = 0; n < count; n++) fleet.setNode(someNode(n));
    const web: Wanted = { ...plain, labels: { app: "web" }, spread: [{ label: { key: "app", value: "web" }, domain: "zone" }] };
    const perZone = [0, 0, 0];
    for (let n = 0; n < 30; n++) {
      const { nodeId: id } = place(fleet, web, n)!;
      fleet.place({ ...web, id: `web-${n}`, nodeId: id });
      perZone[Number(id.slice(1)) % 3]! += 1;
    }
    expect(perZone).toEqual([10, 10, 10]);
  });

  it("bin-pack fills one node before it begins the next; spread begins them all", () => {
    const nodesUsed = (policy: Wanted["policy"]): number => {
      const fleet = new Fleet();
      for (let n = 0; n < count; n++) fleet.setNode(someNode(n));
      const used = new Set<string>();
      for (let n = 0; n < 128; n++) {
        const { nodeId: id } = place(fleet, { ...plain, policy }, n)!;
        fleet.place({ ...plain, id: `vm ${n}`, nodeId: id });
        used.add(id);
      }
      return used.size;
    };
    expect(nodesUsed("bin-pack")).toBe(2); // 64 VMs fit on each
    expect(nodesUsed("spread")).toBe(128);
  });
});

it("says what stands against a node in words", () => {
  const fleet = new Fleet();
  fleet.setNode(someNode(0, { ready: false }));
  fleet.setNode(someNode(1, { cordoned: true }));
  fleet.setNode(someNode(2, { labels: { zone: "far" } }));
  fleet.setNode(someNode(3));
  fleet.setNode(someNode(4, { capacity: { ...big, memBytes: 2 ** 29 } }));
  fleet.setNode(someNode(5));
  fleet.setNode(someNode(6));
  fleet.place({ ...plain, id: "a", nodeId: "n3", labels: { app: "web" } });
  fleet.place({ ...plain, id: "b", nodeId: "n5", resources: { ...plain.resources, cpuMillis: 2000 } });
  const vm: Wanted = {
    ...plain,
    required: [{ op: "not-in", key: "zone", values: ["far"] }],
    antiAffinity: [{ label: { key: "app", value: "web" }, domain: "" }],
  };
  const chosen = place(fleet, vm, 0);
  expect(chosen?.nodeId).toBe("n6");
  expect(explain(fleet, vm, chosen).map(({ nodeId: id, why, message }) => `${id} ${why}: ${message}`)).toEqual([
    "n0 not-ready: it is not ready",
    "n1 cordoned: it is cordoned",
    'n2 label: its label zone is "far", which is ruled out',
    "n3 anti-affinity: it has a VM with app=web",
    "n4 no-room: not enough memory (wanted 1024 MiB, free 512 MiB)",
    "n5 scored-lower: it would do, but scores 0.953; the chosen one 0.984",
  ]);
});

it("does not take a VM for a node that it does not know", () => {
  expect(() => new Fleet().place(full(1))).toThrow("VM full 1 is on node n1, which the fleet does not know");
});
