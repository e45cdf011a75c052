// Where VMs are placed: what their specs ask for, on real controllers, with nodes of several kinds.
import { randomUUID } from "node:crypto";
import { DrainAction } from "@pitwall/proto/pitwall/v1/node.ts";
import { Desired, NodeLossPolicy, Phase, PlacementStrategy, type Placement } from "@pitwall/proto/pitwall/v1/vm.ts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode, type TestNode } from "./support/node.ts";

let pitwall: TestControllers;
let ada: Calls;
const nodes: Record<string, TestNode> = {};
const kinds: Record<string, Record<string, string>> = {
  "a-1": { zone: "a", disk: "ssd" },
  "a-2": { zone: "a" },
  "b-1": { zone: "b", disk: "ssd" },
  "c-1": { zone: "c" },
};
const capacity = { cpuMillis: 8_000, memMib: 8_192, diskMib: 200_000 };

beforeAll(async () => {
  pitwall = await startControllers(2);
  ada = await pitwall.as("ada");
  for (const [index, [name, labels]] of Object.entries(kinds).entries())
    nodes[name] = await startNode(pitwall, { name, labels, capacity, controller: index % 2 });
});
afterAll(async () => {
  for (const node of Object.values(nodes)) await node[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

const request = (name: string, placement: Partial<Placement>, labels: Record<string, string> = {}, more: object = {}) => ({
  ...{ name, requestId: randomUUID() },
  spec: { image: pitwall.image, cpuMillis: 100, memBytes: 128n * 2n ** 20n, diskBytes: 2n ** 30n, labels, placement, ...more },
});
async function placed(
  name: string,
  placement: Partial<Placement>,
  labels: Record<string, string> = {},
  more: object = {},
): Promise<string> {
  return (await ada.vms.createVm(request(name, placement, labels, more))).vm?.nodeName ?? "";
}

describe("a VM", () => {
  it.each([
    [["zone=b"], ["b-1"]],
    [["disk=ssd", "zone!=a"], ["b-1"]],
    [["zone in (b, c)", "!disk"], ["c-1"]],
    [["disk", "zone = a"], ["a-1"]],
  ])("that requires %j is placed on one of %j", async (requireLabels, expected) => {
    expect(expected).toContain(
      await placed(`requires-${requireLabels.length}-${expected[0]}-${requireLabels[0]?.length}`, { requireLabels }),
    );
  });

  it("prefers what it prefers, and goes elsewhere when that is full", async () => {
    expect(await placed("prefers", { preferLabels: ["zone=c"] })).toBe("c-1");
    expect(await placed("fills", { requireLabels: ["zone=c"] }, {}, { cpuMillis: 7_500 })).toBe("c-1");
    expect(await placed("overflows", { preferLabels: ["zone=c"] }, {}, { cpuMillis: 1_000 })).not.toBe("c-1");
  });

  it("for which there is no node is refused, and told why not on each", async () => {
    await expect(placed("nowhere", { requireLabels: ["zone=z"] })).rejects.toThrow(
      /RESOURCE_EXHAUSTED: no node may have the VM: a-1: its label zone is "a"; wanted "z"; .*; and 1 more; change its placement, or add a node/,
    );
    await expect(placed("too-large", {}, {}, { cpuMillis: 60_000 })).rejects.toThrow(
      /RESOURCE_EXHAUSTED: no node has room for the VM: a-1: not enough CPU \(wanted 60000 millis, free \d+ millis\)/,
    );
  });

  it("with a placement that cannot be read is refused", async () => {
    await expect(placed("unreadable", { requireLabels: ["zone=a", "zone in ()"] })).rejects.toThrow(
      "INVALID_ARGUMENT: spec.placement.require_labels[1]: must be key=value",
    );
    await expect(placed("unknown", { strategy: 9 as PlacementStrategy })).rejects.toThrow(
      "INVALID_ARGUMENT: spec.placement.strategy: must be",
    );
    await expect(placed("unknown", {}, {}, { nodeLossPolicy: 9 as NodeLossPolicy })).rejects.toThrow(
      "INVALID_ARGUMENT: spec.node_loss_policy",
    );
  });
});

it("VMs that are packed share a node; VMs that are spread do not", async () => {
  const bob = await pitwall.as("bob");
  const place = async (name: string, strategy: PlacementStrategy): Promise<string> =>
    (await bob.vms.createVm(request(name, { strategy, requireLabels: ["zone=a"] }, {}, { cpuMillis: 1_500 }))).vm?.nodeName ?? "";
  const packed = [
    await place("p-1", PlacementStrategy.PLACEMENT_STRATEGY_BIN_PACK),
    await place("p-2", PlacementStrategy.PLACEMENT_STRATEGY_BIN_PACK),
  ];
  expect(new Set(packed).size).toBe(1);
  const spread: string[] = [];
  // Enough of them to outweigh the image, which the first node has.
  for (let count = 1; count <= 4; count++) spread.push(await place(`s-${count}`, PlacementStrategy.PLACEMENT_STRATEGY_SPREAD));
  expect(new Set(spread).size).toBe(2);
  for (const { id } of (await bob.vms.listVms({})).vms) {
    await bob.vms.deleteVm({ vm: id });
    await bob.vms.waitVm({ vm: id, phases: [Phase.PHASE_GONE] }).catch((error: unknown) => expect(String(error)).toContain("NOT_FOUND"));
  }
});

it("VMs that keep apart never share a failure domain, also when several controllers place them at once", async () => {
  const callers = [ada, await pitwall.as("ada", 1)];
  const apart = { antiAffinityLabel: "app", failureDomainLabel: "zone" };
  const outcomes = await Promise.allSettled(
    Array.from({ length: 8 }, (_, index) => callers[index % 2]!.vms.createVm(request(`apart-${index}`, apart, { app: "db" }))),
  );
  const zones = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [kinds[outcome.value.vm?.nodeName ?? ""]?.["zone"]] : []));
  expect(new Set(zones)).toEqual(new Set(["a", "b", "c"]));
  expect(zones).toHaveLength(3);
  for (const outcome of outcomes) if (outcome.status === "rejected") expect(String(outcome.reason)).toContain("RESOURCE_EXHAUSTED");
  expect(await placed("another-app", apart, { app: "web" })).not.toBe("");
  expect(await placed("no-app", apart)).not.toBe("");
});

it("creates at once on several controllers never exceed what a node has", async () => {
  const callers = [ada, await pitwall.as("ada", 1)];
  const wanted = Array.from({ length: 24 }, (_, index) =>
    request(`crowd-${index}`, { requireLabels: ["zone=b"] }, {}, { cpuMillis: 1_000 }),
  );
  const outcomes = await Promise.allSettled(wanted.map((each, index) => callers[index % 2]!.vms.createVm(each)));
  const fit = outcomes.filter(({ status }) => status === "fulfilled").length;
  const [row] = await pitwall.query(
    `select a.cpu_millis::int as taken, n.cpu_millis::int as has from node_allocation a join node n on n.id = a.node_id where n.name = 'b-1'`,
  );
  expect(row?.["has"]).toBe(8_000);
  expect(Number(row?.["taken"])).toBeLessThanOrEqual(8_000);
  expect(Number(row?.["taken"])).toBeGreaterThan(7_000); // nothing was refused while there was room
  expect(fit).toBeLessThan(24);
  for (const outcome of outcomes) if (outcome.status === "rejected") expect(String(outcome.reason)).toContain("RESOURCE_EXHAUSTED");
});

describe("a plan", () => {
  it("names the node, and says of every other why not there", async () => {
    const { plan } = await ada.vms.createVm({ ...request("planned", { requireLabels: ["zone=a", "disk=ssd"] }), validateOnly: true });
    expect(plan?.nodeName).toBe("a-1");
    expect(plan?.rejections.map(({ nodeName, reason }) => [nodeName, reason]).toSorted()).toEqual([
      ["a-2", "LABEL"],
      ["b-1", "LABEL"],
      ["c-1", "LABEL"],
    ]);
    expect(plan?.rejections.find(({ nodeName }) => nodeName === "b-1")?.message).toBe('its label zone is "b"; wanted "a"');
  });

  it("whose node has filled up meanwhile is ABORTED and says so", async () => {
    const wanted = request("stale", { requireLabels: ["zone=a", "!disk"] }, {}, { cpuMillis: 5_000 });
    const { plan } = await ada.vms.createVm({ ...wanted, validateOnly: true });
    expect(plan?.nodeName).toBe("a-2");
    expect(await placed("quicker", { requireLabels: ["zone=a", "!disk"] }, {}, { cpuMillis: 5_000 })).toBe("a-2");
    await expect(ada.vms.createVm({ ...wanted, planToken: plan?.token ?? "" })).rejects.toThrow(
      /ABORTED: plan_token: the plan no longer holds: on its node, not enough CPU \(wanted 5000 millis, free \d+ millis\); plan again/,
    );
  });
});

describe("a drain", () => {
  const { NODE_LOSS_POLICY_RESCHEDULE: nodeLossPolicy } = NodeLossPolicy;

  it("is planned as it is done: by labels, by who keeps away from whom, and by what the VMs before it will take", async () => {
    await pitwall.query("delete from vm");
    const root = await pitwall.as(admin);
    for (const name of ["a-2", "b-1", "c-1"]) await root.nodes.cordonNode({ node: name });
    const moves = { nodeLossPolicy };
    await placed("needs-ssd", { requireLabels: ["disk=ssd"] }, {}, moves);
    await placed("needs-a", { requireLabels: ["zone=a", "disk"] }, {}, moves);
    // Apart by zone: neither may go to the other's, and each may stay in its own.
    const apart = { antiAffinityLabel: "app", failureDomainLabel: "zone" };
    await placed("db", { ...apart, requireLabels: ["zone in (a,c)"] }, { app: "db" }, moves);
    for (const name of ["a-2", "b-1", "c-1"]) await root.nodes.uncordonNode({ node: name });
    await placed("other-db", { ...apart, requireLabels: ["zone=c"] }, { app: "db" });
    for (const vm of ["needs-ssd", "needs-a", "db", "other-db"]) await ada.vms.waitVm({ vm });

    const { steps } = await root.nodes.drainNode({ node: "a-1", validateOnly: true });
    expect(steps.map(({ vmName, action, toNodeName }) => [vmName, action, toNodeName])).toEqual([
      ["db", DrainAction.DRAIN_ACTION_MOVE, "a-2"],
      ["needs-a", DrainAction.DRAIN_ACTION_STAY, ""],
      ["needs-ssd", DrainAction.DRAIN_ACTION_MOVE, "b-1"],
    ]);
    expect(steps[1]?.message).toContain('its label zone is "b"; wanted "a"');
    await root.nodes.drainNode({ node: "a-1" });
    for (const [vm, node] of [
      ["db", "a-2"],
      ["needs-ssd", "b-1"],
    ] as const)
      await expect.poll(async () => (await ada.vms.getVm({ vm })).vm?.nodeName, { timeout: 20_000 }).toBe(node);
    expect((await ada.vms.getVm({ vm: "needs-a" })).vm).toMatchObject({ nodeName: "a-1", desired: Desired.DESIRED_RUNNING });
  });
});
