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
    return used + wanted.resources[resource] <= node.capacity[resource];
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
const keys = fc.constantFrom("zone", "rack", "gpu", "host");
/** Of the label `host` there are at times more values than the index has classes for. */
const host = fc.integer({ min: 0, max: 13 }).map((n) => `host-${n}`);
const value = fc.oneof({ weight: 3, arbitrary: label }, host);
const nodeLabels = fc
  .tuple(fc.dictionary(fc.constantFrom("zone", "rack", "gpu"), label), fc.option(host, { nil: undefined, freq: 8 }))
  .map(([labels, name]): Record<string, string> => (name === undefined ? labels : { ...labels, host: name }));
const vmLabels = fc.dictionary(fc.constantFrom("app", "tier"), label);
const term: fc.Arbitrary<LabelTerm> = fc.oneof(
  fc.record({
    op: fc.constantFrom("in", "not-in"),
    key: keys,
    values: fc.array(value, { maxLength: 2 }),
  }),
  fc.record({ op: fc.constantFrom("exists", "absent"), key: keys }),
);
const group: fc.Arbitrary<Group> = fc.record(
  { label: fc.record({ key: fc.constantFrom("app", "tier"), value: label }), domain: fc.constantFrom("", "zone", "host") },
  { requiredKeys: ["domain"] },
);
const few = <T>(of: fc.Arbitrary<T>): fc.Arbitrary<T[]> =>
  fc.oneof({ weight: 2, arbitrary: fc.constant<T[]>([]) }, fc.array(of, { maxLength: 2 }));
const facts = (id: fc.Arbitrary<string>): fc.Arbitrary<NodeFacts> =>
  fc.record({
    id,
    ready: fc.integer({ max: 5, min: 0 }).map((n) => n > 0),
    cordoned: fc.integer({ max: 5, min: 0 }).map((n) => n === 0),
    capacity: amounts(40),
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

const nodeId = fc.integer({ min: 0, max: 19 }).map((n) => `n${n}`);
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

const nodeStep = (node: NodeFacts): Step => ({ kind: "node", node });
const steps = fc
  .tuple(fc.array(facts(nodeId), { maxLength: 20 }), fc.array(step, { minLength: 10, maxLength: 60 }))
  .map(([nodes, rest]) => [...nodes.map(nodeStep), ...rest]);
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
        steps.map((past) => past.filter(({ kind }) => kind === "create" || kind === "delete")),
        fc.uniqueArray(facts(nodeId), { minLength: 1, selector: ({ id }) => id }),
        (past, nodes) => {
          const { model } = history([...nodes.map(nodeStep), ...past]);
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
        const order = ({ classes, table }: Fleet): string[][] =>
          classes.map((pool) => Array.from({ length: pool.size }, (_, n) => table.id(pool.at(n))));
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
            network: false, // no VM here has rules for what it sends
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
