// Addresses of VMs: given with the placement, nobody else's while the VM is there and a minute after, and another node's after a move.
import { NodeLossPolicy, Phase, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { eventually, startInstallation, type Controller, type Installation } from "./support/installation.ts";
import { joinNode, obey, reportOf, type SpokenLink, type SpokenNode } from "./support/spoken-node.ts";

const heartbeatMs = 200;
/** Room for 13 VMs: of 16 addresses the network's, the host's and the broadcast's are nobody's. */
const small = { ipv4: "172.30.0.0/28", ipv6: "fd12:3456:789a::/64" };
const roomOfSmall = 13;

let installation: Installation;
let first: Controller;
let second: Controller;
let count = 0;
const links = new AsyncDisposableStack();

beforeAll(async () => {
  installation = await startInstallation();
  const env = { PITWALL_LEASE: "2s", PITWALL_HEARTBEAT: "400ms" };
  [first, second] = await Promise.all([installation.startController(env), installation.startController(env)]);
}, 60_000);

afterAll(async () => {
  await links.disposeAsync();
  await Promise.all([first?.[Symbol.asyncDispose](), second?.[Symbol.asyncDispose]()]);
  await installation?.[Symbol.asyncDispose]();
});

/** Only the nodes of one test take VMs. */
beforeEach(async () => {
  await installation.query("delete from vm");
  await installation.query("update node set cordoned = true");
});

async function linked(subnet: typeof small | undefined): Promise<{ readonly node: SpokenNode; readonly link: SpokenLink }> {
  const node = await joinNode(installation, first.admin, `node-${++count}`);
  const link = links.use(await node.link(first.link, [], subnet && { subnet }));
  void obey(link, heartbeatMs);
  return { node, link };
}

async function create(more: object = {}, at: Controller = first): Promise<string> {
  const spec = { image: installation.image, cpuMillis: 100, ...more };
  return (await at.admin.vms.createVm({ requestId: crypto.randomUUID(), name: `vm-${++count}`, spec })).vm?.id ?? "";
}

const look = async (vm: string): Promise<Vm | undefined> => (await second.admin.vms.getVm({ vm })).vm;
const running = (id: string): Promise<Vm> =>
  eventually(async () => {
    const vm = await look(id);
    return vm?.phase === Phase.PHASE_RUNNING ? vm : undefined;
  });

const remove = async (vm: string): Promise<void> => {
  await first.admin.vms.deleteVm({ vm });
  await first.admin.vms.deleteVm({ vm }).catch(() => undefined); // for good, where the project keeps what is deleted for a while
  await eventually(async () => ((await installation.query("select from vm where id = $1", [vm])).length === 0 ? true : undefined));
};

test("a VM has the addresses that its node is told of, and a node without a subnet has VMs without", async () => {
  const { link } = await linked(small);
  const vm = await running(await create());
  expect(vm.addresses).toEqual(["172.30.0.2", "fd12:3456:789a::ac1e:2"]);
  expect(link.assignments.find(({ vmId }) => vmId === vm.id)?.address).toEqual({ ipv4: "172.30.0.2", ipv6: "fd12:3456:789a::ac1e:2" });
  await installation.query("update node set cordoned = true");
  const without = await linked(undefined);
  const other = await running(await create());
  expect(other.addresses).toEqual([]);
  expect(without.link.assignments.find(({ vmId }) => vmId === other.id)?.address).toBeUndefined();
});

test("VMs that two controllers make at once never share one, and a node that has none left is full", async () => {
  await linked(small);
  const asked = Array.from({ length: roomOfSmall + 4 }, (_, at) => create({}, at % 2 === 0 ? first : second));
  const made = (await Promise.allSettled(asked)).flatMap((one) => (one.status === "fulfilled" ? [one.value] : [String(one.reason)]));
  const ids = made.filter((one) => /^[0-9a-f-]{36}$/.test(one));
  expect(ids).toHaveLength(roomOfSmall);
  for (const refusal of made.filter((one) => !ids.includes(one))) expect(refusal).toContain("RESOURCE_EXHAUSTED");
  const rows = await installation.query("select address from vm");
  expect(new Set(rows.map(({ address }) => address)).size).toBe(roomOfSmall);
});

test("an address rests for a minute after its VM is gone, by the database's clock", async () => {
  const { node } = await linked(small);
  const addresses = new Set<string | undefined>();
  for (let at = 0; at < 3; at++) {
    const vm = await running(await create());
    addresses.add(vm.addresses[0]);
    await remove(vm.id);
  }
  expect([...addresses]).toEqual(["172.30.0.2", "172.30.0.3", "172.30.0.4"]);
  const rests = await installation.query(
    "select host(address) as address, until_time > now() + interval '50 s' and until_time <= now() + interval '60 s' as is_long from address_rest where node_id = $1 order by 1",
    [node.id],
  );
  expect(rests).toEqual([...addresses].map((address) => ({ address, is_long: true })));
  // All others are taken: those that rest are not given.
  const ids = await Promise.all(Array.from({ length: roomOfSmall - 3 }, () => create()));
  await expect(create()).rejects.toThrow("RESOURCE_EXHAUSTED");
  await installation.query("update address_rest set until_time = now() where node_id = $1", [node.id]);
  expect((await running(await create())).addresses[0]).toBe("172.30.0.2");
  expect(ids).toHaveLength(roomOfSmall - 3);
});

test("a VM that begins anew on another node has an address of that one; the old one rests", async () => {
  const { node: old, link } = await linked(small);
  const vm = await running(await create({ nodeLossPolicy: NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE }));
  const { node: next } = await linked({ ipv4: "10.9.0.0/24", ipv6: "fd99::/64" });
  await link[Symbol.asyncDispose]();
  const moved = await eventually(async () => {
    const now = await look(vm.id);
    return now?.nodeId === next.id && now.phase === Phase.PHASE_RUNNING ? now : undefined;
  });
  expect(moved.addresses).toEqual(["10.9.0.2", "fd99::a09:2"]);
  expect(await installation.query("select host(address) as address from address_rest where node_id = $1", [old.id])).toEqual([
    { address: vm.addresses[0] },
  ]);
});

test("a VM that was placed before its node had a subnet, or had another, has an address once the node says so", async () => {
  const { node, link } = await linked(undefined);
  const vm = await running(await create());
  expect(vm.addresses).toEqual([]);
  const had = link.assignments.filter(({ vmId }) => vmId === vm.id).map((assignment) => reportOf(assignment));
  await link[Symbol.asyncDispose]();
  for (const [subnet, address] of [
    [small, "172.30.0.2"],
    [{ ...small, ipv4: "10.8.0.0/16" }, "10.8.0.2"],
  ] as const) {
    await using again = await node.link(first.link, had.slice(-1), { subnet });
    const told = await eventually(() => again.assignments.find(({ vmId }) => vmId === vm.id));
    expect(told.address?.ipv4).toBe(address);
  }
});
