// Nodes that are lost, fenced, drained and removed, with two controllers that both look after them.
import { JoinRole, NodeState, DrainAction } from "@pitwall/proto/pitwall/v1/node.ts";
import { EnrollServiceDefinition } from "@pitwall/proto/pitwall/v1/enroll.ts";
import { Desired, NodeLossPolicy, Phase, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { ChannelCredentials, createChannel, createClient } from "nice-grpc";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { makeRequest } from "@pitwall/enroll";
import { eventually, startInstallation, type Controller, type Installation } from "./support/installation.ts";
import { refusalOf } from "./support/refusals.ts";
import { joinNode, obey, reportOf, stayHeard, type SpokenLink, type SpokenNode } from "./support/spoken-node.ts";

const leaseMs = 2_000;
const heartbeatMs = 200;

let installation: Installation;
let first: Controller;
let second: Controller;
let count = 0;

beforeAll(async () => {
  installation = await startInstallation();
  const env = { PITWALL_LEASE: `${leaseMs}ms`, PITWALL_HEARTBEAT: "400ms" };
  [first, second] = await Promise.all([installation.startController(env), installation.startController(env)]);
}, 60_000);

afterAll(async () => {
  await Promise.all([first?.[Symbol.asyncDispose](), second?.[Symbol.asyncDispose]()]);
  await installation?.[Symbol.asyncDispose]();
});

let links: AsyncDisposableStack;
beforeEach(() => {
  links = new AsyncDisposableStack();
});
/** Nothing of a test is there in the next one. */
afterEach(async () => {
  await links.disposeAsync();
  await installation.query("delete from vm");
  await installation.query("update node set cordoned = true");
});

interface Linked {
  readonly node: SpokenNode;
  readonly link: SpokenLink;
}

async function linked(at: Controller, name = `node-${++count}`): Promise<Linked> {
  const node = await joinNode(installation, first.admin, name);
  const link = links.use(await node.link(at.link));
  void obey(link, heartbeatMs);
  return { node, link };
}

async function created(name: string, nodeLossPolicy: NodeLossPolicy): Promise<Vm> {
  const { vm } = await first.admin.vms.createVm({ name, spec: { image: installation.image, nodeLossPolicy } });
  return until(vm?.id ?? "", ({ phase }) => phase === Phase.PHASE_RUNNING);
}

const vmNow = async (id: string): Promise<Vm | undefined> => (await second.admin.vms.getVm({ vm: id })).vm;

const until = (id: string, holds: (vm: Vm) => boolean): Promise<Vm> =>
  eventually(async () => {
    const vm = await vmNow(id);
    return vm && holds(vm) ? vm : undefined;
  });

const stateOf = async (node: string): Promise<NodeState | undefined> => (await second.admin.nodes.getNode({ node })).node?.state;

const { NODE_LOSS_POLICY_HOLD: hold, NODE_LOSS_POLICY_RESCHEDULE: reschedule } = NodeLossPolicy;

test("what may be rescheduled begins anew elsewhere once lease and fence are over, and what is held waits for its node", async () => {
  const lost = await linked(first);
  const [moving, waiting] = [await created("moving", reschedule), await created("waiting", hold)];
  const other = await linked(second);
  await lost.link[Symbol.asyncDispose]();
  const [row] = await installation.query("select extract(epoch from renew_time)::float as renewed from node_session where node_id = $1", [
    lost.node.id,
  ]);
  expect(await stateOf(lost.node.name)).not.toBe(NodeState.NODE_STATE_LOST);
  const moved = await until(moving.id, ({ nodeId, phase }) => nodeId === other.node.id && phase === Phase.PHASE_RUNNING);
  const sinceRenewalMs = Date.now() - Number(row?.["renewed"]) * 1000;
  expect(sinceRenewalMs).toBeGreaterThanOrEqual(1.5 * leaseMs);
  expect(moved).toMatchObject({ epoch: moving.epoch + 1n, generation: moving.generation + 1n });
  expect(await stateOf(lost.node.name)).toBe(NodeState.NODE_STATE_LOST);
  expect(await until(waiting.id, ({ reason }) => reason === "NODE_LOST")).toMatchObject({ nodeId: lost.node.id, epoch: waiting.epoch });

  // It comes back with all it had: the old placement is nobody's, and must go.
  const had = [moving, waiting].map(({ id, generation, epoch }) =>
    reportOf({ ...lost.link.assignments[0]!, vmId: id, generation, epoch, desired: Desired.DESIRED_RUNNING }),
  );
  const back = links.use(await lost.node.link(second.link, had));
  void stayHeard(back, heartbeatMs);
  const told = await eventually(() => back.assignments.find(({ vmId }) => vmId === moving.id));
  expect(told).toMatchObject({ desired: Desired.DESIRED_DELETED, epoch: moving.epoch });
  back.say({ $case: "report", value: { ...had[0]!, phase: Phase.PHASE_FAILED } });
  expect(await until(waiting.id, ({ reason }) => reason === "")).toMatchObject({ phase: Phase.PHASE_RUNNING, nodeId: lost.node.id });
  expect(await vmNow(moving.id)).toMatchObject({ nodeId: other.node.id, phase: Phase.PHASE_RUNNING });
  const audited = await installation.query("select count(*)::int as count from audit_entry where action = 'NodeLost' and object = $1", [
    `vm/${moving.id}`,
  ]);
  expect(audited).toEqual([{ count: 1 }]);
});

test("a VM that stands still is said to be away with its node, begins anew nowhere, and is what it was when its node is back", async () => {
  const node = await joinNode(installation, first.admin, `node-${++count}`);
  const link = links.use(await node.link(first.link, [], { level: 5 }));
  void obey(link, heartbeatMs);
  const [napping, asleep] = [await created("napping", reschedule), await created("asleep", reschedule)];
  await first.admin.vms.pauseVm({ vm: napping.id });
  await first.admin.vms.suspendVm({ vm: asleep.id });
  const still = [
    await until(napping.id, ({ phase }) => phase === Phase.PHASE_PAUSED),
    await until(asleep.id, ({ phase }) => phase === Phase.PHASE_SUSPENDED),
  ];
  await linked(second);
  await link[Symbol.asyncDispose]();
  for (const { id } of still) await until(id, ({ reason }) => reason === "NODE_UNREACHABLE");
  for (const { id, phase, epoch, nodeId } of still)
    expect(await until(id, ({ reason }) => reason === "NODE_LOST")).toMatchObject({ phase, epoch, nodeId });
  const had = still.map((vm) => reportOf({ ...link.assignments[0]!, ...vm, vmId: vm.id }));
  const back = links.use(await node.link(second.link, had, { level: 5 }));
  void obey(back, heartbeatMs);
  for (const { id, phase } of still) expect(await until(id, ({ reason }) => reason === "")).toMatchObject({ phase });
});

test("a VM that cannot be dealt with is tried ever later, is written down at the fifth time, and holds up nobody", async () => {
  const lost = await linked(first);
  const [bad, good] = [await created("bad", reschedule), await created("good", reschedule)].toSorted((a, b) => (a.id < b.id ? -1 : 1));
  if (!bad || !good) throw new Error("there are two");
  const other = await linked(second);
  await installation.query(`create function refuse() returns trigger language plpgsql as $$ begin raise exception 'a poison pill'; end $$`);
  await installation.query(
    `create trigger refuse before update on vm for each row when (new.id = '${bad.id}' and new.node_id <> old.node_id) execute function refuse()`,
  );
  await lost.link[Symbol.asyncDispose]();
  await until(good.id, ({ nodeId, phase }) => nodeId === other.node.id && phase === Phase.PHASE_RUNNING);
  const parked = async (): Promise<Record<string, unknown> | undefined> =>
    (await installation.query("select failures, message, retry_time - now() as wait from vm_parked where vm_id = $1", [bad.id]))[0];
  const entries = async (): Promise<unknown> =>
    (
      await installation.query("select count(*)::int as count from audit_entry where action = 'VmParked' and object = $1", [`vm/${bad.id}`])
    )[0];
  await eventually(async () => Number((await parked())?.["failures"]) >= 5 || undefined);
  expect((await parked())?.["message"]).toMatch(/a poison pill/);
  await eventually(async () => JSON.stringify(await entries()) === '{"count":1}' || undefined);
  expect(await vmNow(bad.id)).toMatchObject({ nodeId: lost.node.id, epoch: bad.epoch });

  await installation.query("drop trigger refuse on vm");
  await installation.query("update vm_parked set retry_time = now()"); // as time does
  await until(bad.id, ({ nodeId, phase }) => nodeId === other.node.id && phase === Phase.PHASE_RUNNING);
  await eventually(async () => (await parked()) === undefined || undefined);
  expect(await entries()).toEqual({ count: 1 });
});

test("when all controllers were away for longer than every lease, no node is lost by it and nothing begins anew", async () => {
  const one = await linked(first);
  const vm = await created("steady", reschedule);
  await linked(second);
  for (const controller of [first, second]) controller.signal("SIGSTOP");
  await eventually(
    async () =>
      (
        await installation.query("select from node_session where node_id = $1 and lease_expire_time + $2 < now()", [
          one.node.id,
          "1.5 seconds",
        ])
      )[0],
  );
  for (const controller of [first, second]) controller.signal("SIGCONT");
  // Longer than it takes to judge a node that is really gone.
  const since = performance.now();
  await eventually(() => performance.now() - since > 1.5 * leaseMs || undefined);
  expect(await vmNow(vm.id)).toMatchObject({ epoch: vm.epoch, nodeId: one.node.id, phase: Phase.PHASE_RUNNING, reason: "" });
  expect(await stateOf(one.node.name)).toBe(NodeState.NODE_STATE_READY);
  expect(one.link.isOver).toBe(false);
});

test("an operator who fences a node that is off has its VMs begin anew at once; one that is up is not fenced", async () => {
  const off = await linked(first);
  const vm = await created("fenced", reschedule);
  const other = await linked(second);
  await expect(second.admin.nodes.fenceNode({ node: off.node.name })).rejects.toThrow(
    `the node ${off.node.name} has a link, so it is not switched off: drain it, or switch it off first`,
  );
  await off.link[Symbol.asyncDispose]();
  await eventually(async () => ((await stateOf(off.node.name)) === NodeState.NODE_STATE_UNREACHABLE ? true : undefined));
  const fencedMs = performance.now();
  await second.admin.nodes.fenceNode({ node: off.node.name });
  await until(vm.id, ({ nodeId }) => nodeId === other.node.id);
  console.log(`begun anew ${Math.round(performance.now() - fencedMs)} ms after the fence`);
  // What is deleted there needs nobody's word any more.
  await installation.query("update vm set node_id = $1, desired = $2 where id = $3", [off.node.id, Desired.DESIRED_DELETED, vm.id]);
  await eventually(async () => ((await installation.query("select from vm where id = $1", [vm.id])).length === 0 ? true : undefined));
});

test("a drain says what it would do, does it, tells the old node to forget what moved, and ends", async () => {
  const old = await linked(first);
  const [moving, staying] = [await created("moves", reschedule), await created("stops", hold)];
  const other = await linked(second);
  const { steps, node } = await first.admin.nodes.drainNode({ node: old.node.name, validateOnly: true });
  expect(steps.map(({ vmName, action, toNodeName }) => [vmName, action, toNodeName])).toEqual([
    ["moves", DrainAction.DRAIN_ACTION_MOVE, other.node.name],
    ["stops", DrainAction.DRAIN_ACTION_STOP, ""],
  ]);
  expect(node?.draining).toBe(true);
  expect((await first.admin.nodes.getNode({ node: old.node.name })).node).toMatchObject({ cordoned: false, draining: false });
  await second.admin.nodes.drainNode({ node: old.node.name });
  const moved = await until(moving.id, ({ nodeId, phase }) => nodeId === other.node.id && phase === Phase.PHASE_RUNNING);
  expect(moved.epoch).toBe(moving.epoch + 1n);
  await until(staying.id, ({ phase, nodeId }) => phase === Phase.PHASE_STOPPED && nodeId === old.node.id);
  await eventually(
    () => old.link.assignments.some(({ vmId, desired }) => vmId === moving.id && desired === Desired.DESIRED_DELETED) || undefined,
  );
  await eventually(async () => {
    const { node: done } = await second.admin.nodes.getNode({ node: old.node.name });
    return done?.draining === false && done.cordoned ? true : undefined;
  });
  // It was stopped before it began anew: never on two nodes.
  expect(old.link.assignments.some(({ vmId, desired }) => vmId === moving.id && desired === Desired.DESIRED_STOPPED)).toBe(true);
});

/** A stopped VM of its node. */
async function stopped(name: string, policy: NodeLossPolicy): Promise<Vm> {
  const { id } = await created(name, policy);
  await first.admin.vms.stopVm({ vm: id });
  return until(id, ({ phase }) => phase === Phase.PHASE_STOPPED);
}

const reaches = (node: SpokenNode, state: NodeState): Promise<true> =>
  eventually(async () => ((await stateOf(node.name)) === state ? true : undefined));

test("a start of a stopped VM whose node is lost begins anew elsewhere if it may, as its plan says; else it is refused and says what would help", async () => {
  const lost = await linked(first);
  const [moving, waiting] = [await stopped("may-move", reschedule), await stopped("must-wait", hold)];
  const other = await linked(second);
  await lost.link[Symbol.asyncDispose]();
  await reaches(lost.node, NodeState.NODE_STATE_LOST);
  const { plan, vm } = await first.admin.vms.startVm({ vm: moving.id, validateOnly: true });
  expect(plan).toMatchObject({
    nodeName: other.node.name,
    rejections: expect.arrayContaining([expect.objectContaining({ nodeId: lost.node.id })]) as unknown,
  });
  expect(plan?.losses).toEqual([`the disk of the VM may-move on its node ${lost.node.name}, which is lost: it begins with an empty one`]);
  expect(vm).toMatchObject({ nodeId: other.node.id, generation: moving.generation + 1n, epoch: moving.epoch + 1n });
  await first.admin.vms.startVm({ vm: moving.id, planToken: plan?.token ?? "" });
  expect(await until(moving.id, ({ phase }) => phase === Phase.PHASE_RUNNING)).toMatchObject({
    ...{ nodeId: other.node.id, generation: moving.generation + 1n, epoch: moving.epoch + 1n },
  });

  const refusal = await refusalOf(second.admin.vms.startVm({ vm: waiting.id }));
  expect(refusal).toContain(`FAILED_PRECONDITION the VM must-wait cannot start: its node ${lost.node.name} is lost`);
  expect(refusal).toContain("`pitwall update must-wait --reschedule` allows that it begins anew elsewhere with an empty disk");
  expect(await refusalOf(second.admin.vms.startVm({ vm: waiting.id, validateOnly: true }))).toBe(refusal);
  expect(await vmNow(waiting.id)).toMatchObject({ desired: Desired.DESIRED_STOPPED, generation: waiting.generation });
  await second.admin.vms.updateVm({
    vm: waiting.id,
    value: { spec: { nodeLossPolicy: reschedule } },
    updateMask: ["spec.node_loss_policy"],
  });
  await second.admin.vms.startVm({ vm: waiting.id });
  await until(waiting.id, ({ phase, nodeId }) => phase === Phase.PHASE_RUNNING && nodeId === other.node.id);
});

test("a start while the node is merely away is taken and says so: it runs when the node is back, or is dealt with as one that ran when it is lost", async () => {
  const away = await linked(first);
  const [back, moving, waiting] = [await stopped("back", hold), await stopped("moves-on", reschedule), await stopped("waits", hold)];
  const other = await linked(second);
  await away.link[Symbol.asyncDispose]();
  await reaches(away.node, NodeState.NODE_STATE_UNREACHABLE);
  const { vm } = await first.admin.vms.startVm({ vm: back.id });
  expect(vm).toMatchObject({
    reason: "NODE_UNREACHABLE",
    message: `its node ${away.node.name} has no link to a controller: it starts once that has`,
  });
  const again = links.use(
    await away.node.link(
      second.link,
      [back, moving, waiting].map((row) =>
        reportOf({
          ...away.link.assignments[0]!,
          vmId: row.id,
          generation: row.generation,
          epoch: row.epoch,
          desired: Desired.DESIRED_STOPPED,
        }),
      ),
    ),
  );
  void obey(again, heartbeatMs);
  expect(await until(back.id, ({ phase }) => phase === Phase.PHASE_RUNNING)).toMatchObject({ nodeId: away.node.id, reason: "" });

  await again[Symbol.asyncDispose]();
  await reaches(away.node, NodeState.NODE_STATE_UNREACHABLE);
  for (const { id } of [moving, waiting]) await first.admin.vms.startVm({ vm: id });
  await until(moving.id, ({ phase, nodeId }) => phase === Phase.PHASE_RUNNING && nodeId === other.node.id);
  await until(waiting.id, ({ reason, nodeId }) => reason === "NODE_LOST" && nodeId === away.node.id);
});

test("a VM that was deleted and brought back after its node was fenced is not started without a word", async () => {
  await installation.query("update project set undelete_window_ms = 3600000");
  using _ = { [Symbol.dispose]: () => void installation.query("update project set undelete_window_ms = 0") };
  const off = await linked(first);
  const vm = await created("brought-back", hold);
  await first.admin.vms.deleteVm({ vm: vm.id });
  await until(vm.id, ({ phase }) => phase === Phase.PHASE_STOPPED);
  await off.link[Symbol.asyncDispose]();
  await reaches(off.node, NodeState.NODE_STATE_UNREACHABLE);
  await first.admin.nodes.fenceNode({ node: off.node.name });
  await first.admin.vms.undeleteVm({ vm: vm.id });
  expect(await refusalOf(first.admin.vms.startVm({ vm: vm.id }))).toContain(
    `the VM brought-back cannot start: its node ${off.node.name} is lost (an administrator said that it is switched off); its disk is there`,
  );
});

test("a node that was cut off before it heard that a VM may be rescheduled may run it still: it begins anew after a fence only", async () => {
  const cut = await linked(first);
  const vm = await created("untold", hold);
  const other = await linked(second);
  await cut.link[Symbol.asyncDispose]();
  await first.admin.vms.updateVm({ vm: vm.id, value: { spec: { nodeLossPolicy: reschedule } }, updateMask: ["spec.node_loss_policy"] });
  await reaches(cut.node, NodeState.NODE_STATE_LOST);
  const held = await until(vm.id, ({ reason }) => reason === "NODE_LOST");
  expect(held).toMatchObject({ nodeId: cut.node.id, epoch: vm.epoch, message: expect.stringContaining("may run it still") as string });
  expect(await refusalOf(first.admin.vms.restartVm({ vm: vm.id }))).toContain("was lost before it heard that the VM may be rescheduled");
  await first.admin.nodes.fenceNode({ node: cut.node.name });
  await until(vm.id, ({ nodeId, phase }) => nodeId === other.node.id && phase === Phase.PHASE_RUNNING);
});

test("nothing is placed on a cordoned node, until it is uncordoned", async () => {
  const only = await linked(first);
  await second.admin.nodes.cordonNode({ node: only.node.name });
  await expect(first.admin.vms.createVm({ name: "homeless", spec: { image: installation.image } })).rejects.toThrow("no node is ready");
  await second.admin.nodes.uncordonNode({ node: only.node.name });
  await created("homeless", hold);
});

test("a node is removed once nothing is placed on it; its certificate is worth nothing from then on", async () => {
  const gone = await linked(first);
  const vm = await created("last", hold);
  await expect(second.admin.nodes.deleteNode({ node: gone.node.name })).rejects.toThrow("1 VM is placed on the node");
  const removed = [first, second].map(async ({ admin }) => {
    for await (const message of admin.nodes.watchNodes({})) if (message.removed) return message.node?.id;
    return undefined;
  });
  await second.admin.vms.deleteVm({ vm: vm.id });
  await eventually(async () => ((await installation.query("select from vm where id = $1", [vm.id])).length === 0 ? true : undefined));
  await second.admin.nodes.deleteNode({ node: gone.node.name });
  await gone.link.ended;
  expect(await Promise.all(removed)).toEqual([gone.node.id, gone.node.id]);
  await expect(gone.node.link(second.link)).rejects.toThrow("this node is not known: it was removed");
  const { key, cert, ca } = gone.node.identity.tls();
  const channel = createChannel(first.link, ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert)));
  const { csr } = await makeRequest(gone.node.name);
  await expect(createClient(EnrollServiceDefinition, channel).renew({ csr })).rejects.toThrow("this node is not known: it was removed");
  channel.close();
  await expect(first.admin.nodes.getNode({ node: gone.node.name })).rejects.toThrow("there is no node");
  await expect(first.admin.nodes.createJoinToken({ role: JoinRole.JOIN_ROLE_NODE, name: gone.node.name })).resolves.toBeDefined();
});
