// A node with more VMs than one message has room for.
import type { Inventory } from "@pitwall/proto/pitwall/v1/link.ts";
import { VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, startInstallation, type Controller, type Installation } from "./support/installation.ts";
import { joinNode, stayHeard, type SpokenNode } from "./support/spoken-node.ts";

const vmCount = 6_000;
const partSize = 1_500;
const cpuMillis = 1_000_000_000;

let installation: Installation;
let controller: Controller;
let node: SpokenNode;
/** As the node has them, in any order. */
let reports: VmReport[];

beforeAll(async () => {
  installation = await startInstallation();
  controller = await installation.startController();
  node = await joinNode(installation, controller.admin, "large");
  await using link = await node.link(controller.link, [], { cpuMillis });
  const spec = { image: installation.image, cpuMillis: 100, memBytes: 128n << 20n, diskBytes: 64n << 20n };
  const { vm } = await eventually(() => controller.admin.vms.createVm({ name: "first", spec }).catch(() => undefined));
  if (!vm) throw new Error("a VM was made without being told");
  await link[Symbol.asyncDispose]();
  await installation.query(
    "update project set quota_vms = 1e9, quota_cpu_millis = 1e15, quota_mem_bytes = 1e18, quota_disk_bytes = 1e18, quota_addresses = 1e9",
  );
  // The others of them as copies: making each is of other tests.
  await installation.query("update vm set phase = $2, observed_generation = 1, ssh_host_key = 'ssh-ed25519 AAAA' where id = $1", [
    ...[vm.id, Phase.PHASE_RUNNING],
  ]);
  await installation.query(
    `insert into vm select (jsonb_populate_record(vm, jsonb_build_object('id', gen_random_uuid(), 'name', concat('vm-', n)))).*
     from vm, generate_series(2, $2::int) as n where vm.id = $1`,
    [vm.id, vmCount],
  );
  const ids = await installation.query("select id from vm");
  reports = ids.map(({ id }) =>
    VmReport.fromPartial({
      ...{ vmId: String(id), generation: 1n, epoch: 1n, phase: Phase.PHASE_RUNNING, sshHostKey: "ssh-ed25519 AAAA" },
      message: "x".repeat(200),
    }),
  );
}, 180_000);

afterAll(async () => {
  await controller?.[Symbol.asyncDispose]();
  await installation?.[Symbol.asyncDispose]();
});

function partsOf(vms: readonly VmReport[]): Inventory[] {
  const partCount = Math.ceil(vms.length / partSize);
  return Array.from({ length: partCount }, (_, n) => ({
    ...{ vms: vms.slice(n * partSize, (n + 1) * partSize), complete: false, part: n + 1, partCount },
  }));
}

const inPhase = async (phase: Phase): Promise<string[]> =>
  (await installation.query("select id from vm where phase = $1", [phase])).map(({ id }) => String(id));

test("an inventory of which a part is missing proves nothing: its session ends, and no VM is lost", { timeout: 120_000 }, async () => {
  const parts = partsOf(reports.slice(1));
  for (const cut of [parts.filter((_, n) => n !== 1), parts.with(1, { ...partsOf(reports)[0], part: 3, partCount: 4 } as Inventory)]) {
    await using link = await node.link(controller.link, [], { cpuMillis, parts: cut });
    await link.ended;
    expect(link.assignments).toEqual([]);
  }
  await using unfinished = await node.link(controller.link, [], { cpuMillis, parts: parts.slice(0, -1) });
  const beating = stayHeard(unfinished, 200);
  await eventually(() => unfinished.heard.filter(({ $case }) => $case === "heartbeatAck").length > 3 || undefined);
  expect(unfinished.assignments).toEqual([]);
  expect(await inPhase(Phase.PHASE_FAILED)).toEqual([]);
  await unfinished[Symbol.asyncDispose]();
  await beating;
});

test(
  `a node of ${vmCount} VMs says all it has, and is told all it should, in parts; the one that it lacks is lost`,
  { timeout: 120_000 },
  async () => {
    await using link = await node.link(controller.link, [], { cpuMillis, parts: partsOf(reports.slice(1)) });
    const beating = stayHeard(link, 200);
    await eventually(() => link.assignments.length >= vmCount - 1 || undefined);
    expect(await inPhase(Phase.PHASE_FAILED)).toEqual([reports[0]?.vmId]);
    expect((await inPhase(Phase.PHASE_RUNNING)).length).toBe(vmCount - 1);
    const lists = link.heard.flatMap((message) => (message.$case === "assignments" ? [message.value] : []));
    expect(lists.length).toBeGreaterThan(1);
    expect(lists.map(({ complete, part, partCount }) => [complete, part, partCount])).toEqual(
      lists.map((_, n) => [false, n + 1, lists.length]),
    );
    expect(new Set(link.assignments.map(({ vmId }) => vmId))).toEqual(new Set(reports.slice(1).map(({ vmId }) => vmId)));
    expect(link.isOver).toBe(false);
    await link[Symbol.asyncDispose]();
    await beating;
  },
);
