// Nodes that are lost, fenced, drained and removed, with two controllers that both look after them.
import { JoinRole, NodeState, DrainAction } from "@pitwall/proto/pitwall/v1/node.ts";
import { EnrollServiceDefinition } from "@pitwall/proto/pitwall/v1/enroll.ts";
import { Desired, NodeLossPolicy, Phase, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { ChannelCredentials, createChannel, createClient } from "nice-grpc";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { makeRequest } from "@pitwall/enroll";
import { eventually, startInstallation, type Controller, type Installation } from "./support/installation.ts";
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
  await second.admin.vms.deleteVm({ vm: vm.id });
  await eventually(async () => ((await installation.query("select from vm where id = $1", [vm.id])).length === 0 ? true : undefined));
  await second.admin.nodes.deleteNode({ node: gone.node.name });
  await gone.link.ended;
  await expect(gone.node.link(second.link)).rejects.toThrow("this node is not known: it was removed");
  const { key, cert, ca } = gone.node.identity.tls();
  const channel = createChannel(first.link, ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert)));
  const { csr } = await makeRequest(gone.node.name);
  await expect(createClient(EnrollServiceDefinition, channel).renew({ csr })).rejects.toThrow("this member was removed");
  channel.close();
  await expect(first.admin.nodes.getNode({ node: gone.node.name })).rejects.toThrow("there is no node");
  await expect(first.admin.nodes.createJoinToken({ role: JoinRole.JOIN_ROLE_NODE, name: gone.node.name })).resolves.toBeDefined();
});
