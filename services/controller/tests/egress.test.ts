// Rules for what VMs send: refused with the field named, placed only where they are heeded, told to the node at once when they change.
import { DeniedFlow_By, EgressVerdict, Phase, type Egress } from "@pitwall/proto/pitwall/v1/vm.ts";
import { systemClock } from "@pitwall/runtime";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, startInstallation, type Controller, type Installation } from "./support/installation.ts";
import { joinNode, obey, type SpokenLink, type SpokenNode } from "./support/spoken-node.ts";

const subnet = { ipv4: "172.30.0.0/24", ipv6: "fd12:3456:789a::/64" };
const level = 8;
const closed: Egress = { rules: [], otherwise: EgressVerdict.EGRESS_VERDICT_DENY };
const open: Egress = { rules: [], otherwise: EgressVerdict.EGRESS_VERDICT_ALLOW };

let installation: Installation;
let controller: Controller;
let count = 0;
const links = new AsyncDisposableStack();
let heeding: { readonly node: SpokenNode; readonly link: SpokenLink };

async function linked(name: string, options: object): Promise<{ readonly node: SpokenNode; readonly link: SpokenLink }> {
  const node = await joinNode(installation, controller.admin, name);
  const link = links.use(await node.link(controller.link, [], options));
  void obey(link, 400);
  return { node, link };
}

beforeAll(async () => {
  installation = await startInstallation();
  controller = await installation.startController({});
  await linked("old", { subnet, level: 6 });
  await linked("without", { level });
}, 60_000);

afterAll(async () => {
  await links.disposeAsync();
  await controller?.[Symbol.asyncDispose]();
  await installation?.[Symbol.asyncDispose]();
});

async function create(more: object = {}): Promise<string> {
  const spec = { image: installation.image, cpuMillis: 100, ...more };
  const { vm } = await controller.admin.vms.createVm({ requestId: crypto.randomUUID(), name: `vm-${++count}`, spec });
  return vm?.id ?? "";
}
const update = (vm: string, egress: Egress | undefined, more: object = {}) =>
  controller.admin.vms.updateVm({ vm, value: { spec: { egress } }, updateMask: ["spec.egress"], ...more });

test("where no node heeds rules a VM with rules is not placed, and told why; nor is one given rules where it is", async () => {
  await expect(create({ egress: closed })).rejects.toThrow(
    /RESOURCE_EXHAUSTED: no node may have the VM: old: it does not heed rules for what VMs send/,
  );
  await controller.admin.nodes.cordonNode({ node: "without" });
  await expect(update(await create(), closed)).rejects.toThrow("its node's agent is too old");
  await controller.admin.nodes.uncordonNode({ node: "without" });
  await controller.admin.nodes.cordonNode({ node: "old" });
  const vm = await create();
  await expect(update(vm, closed)).rejects.toThrow("its node has no network of its own");
  expect((await update(vm, undefined)).vm?.spec?.egress).toBeUndefined();
});

test("a VM with rules is placed where they are heeded, and its node is told of changes at once", async () => {
  heeding = await linked("heeding", { subnet, level });
  const id = await create({ egress: closed });
  const told = (): readonly (Egress | undefined)[] =>
    heeding.link.assignments.flatMap(({ vmId, spec }) => (vmId === id ? [spec?.egress] : []));
  await eventually(async () =>
    ((await controller.admin.vms.getVm({ vm: id })).vm?.phase ?? 0) === Phase.PHASE_RUNNING ? true : undefined,
  );
  expect(told().at(-1)).toEqual(closed);
  const { vm: planned, plan } = await update(id, open, { validateOnly: true });
  expect([planned?.spec?.egress, plan?.token !== ""]).toEqual([open, true]);
  expect((await controller.admin.vms.getVm({ vm: id })).vm?.spec?.egress).toEqual(closed);
  const changed = await update(id, open, { planToken: plan?.token ?? "" });
  expect(changed.vm?.spec?.egress).toEqual(open);
  await eventually(() => (told().at(-1)?.otherwise === open.otherwise ? true : undefined));
  await update(id, undefined);
  await eventually(() => (told().at(-1) === undefined ? true : undefined));
  // It was not started again for that.
  expect(new Set(heeding.link.assignments.flatMap(({ vmId, restartGeneration }) => (vmId === id ? [restartGeneration] : []))).size).toBe(1);
});

test("what is wrong is refused with its field, and changes nothing", async () => {
  const bad = {
    rules: [{ verdict: 1, network: "nowhere", protocol: 0, firstPort: 0, lastPort: 0 }],
    otherwise: closed.otherwise,
  } satisfies Egress;
  await expect(create({ egress: bad })).rejects.toThrow("spec.egress.rules[0].network");
  const id = await create({ egress: closed });
  await expect(update(id, bad)).rejects.toThrow("spec.egress.rules[0].network");
  await expect(update(id, { rules: [], otherwise: 0 })).rejects.toThrow("spec.egress.otherwise");
  expect((await controller.admin.vms.getVm({ vm: id })).vm?.spec?.egress).toEqual(closed);
});

test("a VM with a limit of its bandwidth is placed where that is kept, and gets none where it is not", async () => {
  const limits = { bandwidthInBps: 1_000_000n, bandwidthOutBps: 64_000n };
  await expect(create(limits)).rejects.toThrow(/heeding: it does not limit the bandwidth of VMs/);
  await expect(create({ bandwidthOutBps: 63_999n })).rejects.toThrow("spec.bandwidth_out_bps: must be 0, for no limit, or 64000 to");
  const limit = (vm: string, bandwidthInBps: bigint) =>
    controller.admin.vms.updateVm({ vm, value: { spec: { bandwidthInBps } }, updateMask: ["spec.bandwidth_in_bps"] });
  const elsewhere = await create({ egress: closed });
  await expect(limit(elsewhere, 1_000_000n)).rejects.toThrow("cannot have a limit of its bandwidth: its node's agent is too old");
  expect((await limit(elsewhere, 0n)).vm?.spec?.bandwidthInBps).toBe(0n);
  const pacing = await linked("pacing", { subnet, level: 11 });
  const id = await create(limits);
  await eventually(() => (pacing.link.assignments.some(({ vmId }) => vmId === id) ? true : undefined));
  expect((await limit(id, 2_000_000n)).vm?.spec).toMatchObject({ ...limits, bandwidthInBps: 2_000_000n });
  const told = (): bigint | undefined => pacing.link.assignments.findLast(({ vmId }) => vmId === id)?.spec?.bandwidthInBps;
  await eventually(() => (told() === 2_000_000n ? true : undefined));
  await controller.admin.nodes.cordonNode({ node: "pacing" });
});

test("what a VM was denied is asked of its node, by whichever controller; one that counts nothing is not asked", async () => {
  const id = await create({ egress: closed });
  const flows = [
    { destination: "203.0.113.7", protocol: 6, port: 25, packets: 3n, lastTime: new Date(1_000), by: DeniedFlow_By.BY_RULES },
    { destination: "10.0.0.1", protocol: 1, port: 0, packets: 1n, lastTime: new Date(0), by: DeniedFlow_By.BY_NODE },
  ];
  void (async () => {
    for (const done = new Set<string>(); !heeding.link.isOver; await systemClock.sleep(10))
      for (const message of heeding.link.heard)
        if (message.$case === "networkCommand" && !done.has(message.value.requestId)) {
          const { requestId, command } = message.value;
          done.add(requestId);
          const isIts = command?.$case === "deniedFlows" && command.value.vmId === id;
          const deniedFlows = { flows: isIts ? flows : [], unlistedPackets: 7n };
          heeding.link.say({ $case: "networkAnswer", value: { requestId, reason: "", message: "", deniedFlows } });
        }
  })();
  await using other = await installation.startController({});
  for (const { admin } of [controller, other]) expect(await admin.vms.listDeniedFlows({ vm: id })).toEqual({ flows, unlistedPackets: 7n });
  await expect(controller.admin.vms.listDeniedFlows({ vm: crypto.randomUUID() })).rejects.toThrow("NOT_FOUND");
  for (const node of ["heeding", "without"]) await controller.admin.nodes.cordonNode({ node });
  await controller.admin.nodes.uncordonNode({ node: "old" });
  await expect(controller.admin.vms.listDeniedFlows({ vm: await create() })).rejects.toThrow("the agent of its node is too old");
});
