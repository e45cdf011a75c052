// Certificates that are taken back: from that moment on they open nothing, on any controller, whatever their holder does.
import { makeRequest } from "@pitwall/enroll";
import { EnrollServiceDefinition } from "@pitwall/proto/pitwall/v1/enroll.ts";
import { DrainAction, NodeState } from "@pitwall/proto/pitwall/v1/node.ts";
import { NodeLossPolicy, Phase, VmSpec, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { ChannelCredentials, createChannel, createClient } from "nice-grpc";
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest";
import { eventually, startInstallation, type Controller, type Installation } from "./support/installation.ts";
import { joinGateway, joinNode, keepLinked, obey, stayHeard, type SpokenNode } from "./support/spoken-node.ts";

let installation: Installation;
let first: Controller;
let second: Controller;

beforeAll(async () => {
  installation = await startInstallation();
  [first, second] = await Promise.all([installation.startController(), installation.startController()]);
}, 60_000);
afterAll(async () => {
  await Promise.all([first?.[Symbol.asyncDispose](), second?.[Symbol.asyncDispose]()]);
  await installation?.[Symbol.asyncDispose]();
});

const { NODE_LOSS_POLICY_HOLD: hold, NODE_LOSS_POLICY_RESCHEDULE: reschedule } = NodeLossPolicy;
const look = async (id: string): Promise<Vm | undefined> => (await first.admin.vms.getVm({ vm: id })).vm;

async function running(name: string, nodeLossPolicy: NodeLossPolicy): Promise<Vm> {
  const spec = VmSpec.fromPartial({ image: installation.image, nodeLossPolicy });
  const { vm } = await first.admin.vms.createVm({ name, spec });
  return eventually(async () => {
    const now = await look(vm?.id ?? "");
    return now?.phase === Phase.PHASE_RUNNING ? now : undefined;
  });
}

/** What its certificate is good for beside its link. */
async function renewed(node: Pick<SpokenNode, "name" | "identity">, at: Controller): Promise<unknown> {
  const { key, cert, ca } = node.identity.tls();
  const channel = createChannel(at.link, ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert)));
  try {
    const { csr } = await makeRequest(node.name);
    return await createClient(EnrollServiceDefinition, channel).renew({ csr });
  } finally {
    channel.close();
  }
}

const refused = "PERMISSION_DENIED: this node is not known: it was removed or revoked";

it("a node that keeps its link is cut off at once; its VMs begin elsewhere only when its lease and fence have had their time", async () => {
  const hostile = await joinNode(installation, first.admin, "hostile");
  const link = await hostile.link(first.link);
  void obey(link, 200);
  const [held, moving] = [await running("held", hold), await running("moving", reschedule)];
  const other = await joinNode(installation, first.admin, "other");
  const kept = keepLinked(other, [second.link], 200);
  onTestFinished(() => kept[Symbol.asyncDispose]());
  await eventually(
    async () => (await first.admin.nodes.getNode({ node: "other" })).node?.state === NodeState.NODE_STATE_READY || undefined,
  );

  const plan = await second.admin.nodes.revokeNode({ node: "hostile", validateOnly: true });
  expect(plan.steps.map(({ vmName, action }) => [vmName, action])).toEqual([
    ["held", DrainAction.DRAIN_ACTION_STAY],
    ["moving", DrainAction.DRAIN_ACTION_MOVE],
  ]);
  expect([link.isOver, (await first.admin.nodes.getNode({ node: "hostile" })).node?.revoked]).toEqual([false, false]);

  const sinceMs = performance.now();
  const { node } = await second.admin.nodes.revokeNode({ node: "hostile" });
  expect(node).toMatchObject({ revoked: true, cordoned: true, state: NodeState.NODE_STATE_UNREACHABLE });
  await link.ended;
  console.log(`the link of a revoked node ended on another controller within ${Math.round(performance.now() - sinceMs)} ms`);
  for (const at of [first, second]) {
    await expect(hostile.link(at.link, [])).rejects.toThrow(refused);
    await expect(renewed(hostile, at)).rejects.toThrow(refused);
  }
  const audited = await installation.query("select object from audit_entry where action = 'NodeService/RevokeNode'");
  expect(audited).toEqual([{ object: `node/${hostile.id}` }]);

  const begun = await eventually(async () => {
    const now = await look(moving.id);
    return now?.nodeName === "other" ? now : undefined;
  });
  // The lease of 4 s had hardly begun; the fence has half of it again.
  expect(performance.now() - sinceMs).toBeGreaterThan(4_500);
  expect(begun.epoch).toBe(moving.epoch + 1n);
  // VMs of a lost node are gone through one by one.
  const told = await eventually(async () => {
    const now = await look(held.id);
    return now?.reason === "NODE_LOST" ? now : undefined;
  });
  expect(told).toMatchObject({ nodeName: "hostile", epoch: held.epoch });

  // Its name is not free, or its old certificates were good again, before it is removed; that needs somebody's word that it is off.
  await installation.query("update member set certificate_expire_time = now() - interval '1 day' where id = $1", [hostile.id]);
  const elsewhere = { dir: `${installation.dir}/again` };
  await expect(joinNode(elsewhere, first.admin, "hostile")).rejects.toThrow("the node hostile was revoked; remove it first");
  await first.admin.nodes.fenceNode({ node: "hostile" });
  await first.admin.vms.deleteVm({ vm: held.id });
  await eventually(async () => ((await installation.query("select from vm where id = $1", [held.id])).length === 0 ? true : undefined));
  await first.admin.nodes.deleteNode({ node: "hostile" });
  const anew = await joinNode(elsewhere, first.admin, "hostile");
  expect(anew.id).not.toBe(hostile.id);
  await using again = await anew.link(first.link);
  void stayHeard(again, 200);
  await expect(hostile.link(first.link)).rejects.toThrow(refused);
});

it("a gateway is refused from the next call on, on every controller; one that joins in its name is another", async () => {
  await using gateway = await joinGateway(installation, first.admin, "door");
  const asks = (at: Controller): Promise<unknown> => gateway.access(at.link).checkTunnels({ tunnels: [] });
  for (const at of [first, second]) await asks(at);
  const listed = (await first.admin.nodes.listGateways({})).gateways;
  expect(listed.map(({ name }) => name)).toEqual(["door"]);
  await expect(first.admin.nodes.revokeGateway({ gateway: "nobody" })).rejects.toThrow('NOT_FOUND: there is no gateway "nobody"');
  await second.admin.nodes.revokeGateway({ gateway: "door" });
  for (const at of [first, second])
    await expect(asks(at)).rejects.toThrow("PERMISSION_DENIED: this gateway is not known: it was removed or revoked");
  expect((await first.admin.nodes.listGateways({})).gateways).toEqual([]);
  const audited = await installation.query("select object, detail from audit_entry where action = 'NodeService/RevokeGateway'");
  expect(audited).toEqual([{ object: `gateway/${listed[0]?.id}`, detail: { name: "door" } }]);
  await using anew = await joinGateway({ dir: `${installation.dir}/again` }, first.admin, "door");
  await anew.access(first.link).checkTunnels({ tunnels: [] });
  await expect(asks(first)).rejects.toThrow("PERMISSION_DENIED");
});
