// An agent that dies for real, at each step of creating and deleting a VM and of its way back: its next start brings about what was
// wanted, once, and leaves nothing. The same on a simulated host, with more of the steps: src/sim/node.test.ts.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Desired, NodeLossPolicy, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { provideBreakable, provision } from "@pitwall/quickstart";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { LoneHost, wanted } from "./support/lone-host.ts";

const ttlMs = 10_000;
const limit = { timeout: 30_000, interval: 20 };

let program: string;
beforeAll(async () => {
  program = `${(await provision(() => undefined)).powerunit}-fence`;
});

const createSteps = [
  "create.node.received",
  "create.node.journalled",
  "create.vmm.spawned",
  "create.vmm.configured",
  "fence.armed#1",
  "fence.armed#2",
  "create.vmm.started",
  "rejoin.snapshot.received",
  "rejoin.diff.applied",
];
const deleteSteps = [
  "rejoin.agent.start",
  "rejoin.scan.anchors",
  "rejoin.scan.processes",
  "rejoin.adopt",
  "rejoin.inventory.sent",
  "delete.node.journalled",
  "delete.vmm.kill",
  "delete.vmm.reaped",
  "delete.disk.gone",
  "delete.anchor.gone",
];

const suspendSteps = ["suspend.node.journalled", "suspend.memory.kept"];
/** The first passing is the boot's, where there is one. */
const wakeSteps = ["wake.memory.gone", "create.vmm.spawned", "create.vmm.configured", "create.vmm.started"];

async function hostFor(): Promise<{ host: LoneHost; vm: ReturnType<typeof wanted> }> {
  const host = await LoneHost.make(program, ttlMs);
  onTestFinished(() => host[Symbol.asyncDispose]());
  return { host, vm: wanted(NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE) };
}

describe("killed at", () => {
  it.each(createSteps)("%s of a create: one VMM after the next start", async (step) => {
    const { host, vm } = await hostFor();
    expect(await host.startAgent([vm], `${step}=exit`)).toBe(137);
    void host.startAgent([vm]);
    await expect.poll(() => host.hasReported(vm.vmId, Phase.PHASE_RUNNING), limit).toBe(true);
    expect(host.vmms(vm.vmId)).toHaveLength(1);
  });

  it.each(deleteSteps)("%s of a delete: nothing after the next start", async (step) => {
    const { host, vm } = await hostFor();
    const ended = host.startAgent([vm]);
    await expect.poll(() => host.hasReported(vm.vmId, Phase.PHASE_RUNNING), limit).toBe(true);
    host.agent?.kill("SIGKILL");
    await ended;
    const deleted = { ...vm, generation: 2n, desired: Desired.DESIRED_DELETED };
    expect(await host.startAgent([deleted], `${step}=exit`)).toBe(137);
    void host.startAgent([deleted]);
    await expect.poll(() => host.hasReported(vm.vmId, Phase.PHASE_GONE), limit).toBe(true);
    expect(host.vmms(vm.vmId)).toEqual([]);
    expect(await readdir(join(host.dir, "vms"))).toEqual([]);
    await expect.poll(() => host.guarded(), limit).toEqual([]); // the fence is told, and not waited for
  });
});

describe("a VM that is suspended, and whose agent is killed at", () => {
  const bootsOf = ({ reports }: LoneHost): number => reports.filter(({ phase }) => phase === Phase.PHASE_BOOTING).length;

  async function ended(host: LoneHost, vm: ReturnType<typeof wanted>, phase: Phase): Promise<void> {
    const over = host.startAgent([vm]);
    await expect.poll(() => host.hasReported(vm.vmId, phase), limit).toBe(true);
    host.agent?.kill("SIGKILL");
    await over;
  }

  it.each(suspendSteps)("%s is suspended by the next one, and wakes without a boot", async (step) => {
    const { host, vm: bare } = await hostFor();
    const vm = { ...bare, restartGeneration: 1n };
    await ended(host, vm, Phase.PHASE_RUNNING);
    const suspended = { ...vm, generation: 2n, desired: Desired.DESIRED_SUSPENDED };
    expect(await host.startAgent([suspended], `${step}=exit`)).toBe(137);
    await ended(host, suspended, Phase.PHASE_SUSPENDED);
    expect(host.vmms(vm.vmId)).toEqual([]);
    await expect.poll(() => host.guarded(), limit).toEqual([]);
    host.reports.length = 0;
    void host.startAgent([{ ...vm, generation: 3n }]);
    await expect.poll(() => host.hasReported(vm.vmId, Phase.PHASE_RUNNING), limit).toBe(true);
    expect([host.vmms(vm.vmId).length, bootsOf(host)]).toEqual([1, 0]);
  });

  it.each(wakeSteps)("%s is woken by the next one, without a boot", async (step) => {
    const { host, vm: bare } = await hostFor();
    const vm = { ...bare, restartGeneration: 1n };
    await ended(host, vm, Phase.PHASE_RUNNING);
    await ended(host, { ...vm, generation: 2n, desired: Desired.DESIRED_SUSPENDED }, Phase.PHASE_SUSPENDED);
    host.reports.length = 0;
    expect(await host.startAgent([{ ...vm, generation: 3n }], `${step}=exit`)).toBe(137);
    void host.startAgent([{ ...vm, generation: 3n }]);
    await expect.poll(() => host.hasReported(vm.vmId, Phase.PHASE_RUNNING), limit).toBe(true);
    expect([host.vmms(vm.vmId).length, bootsOf(host)]).toEqual([1, 0]);
  });
});

it("a fence that is stopped just before it kills, kills once it goes on", async () => {
  const { cacheDir } = await provision(() => undefined);
  const host = await LoneHost.make(`${await provideBreakable(cacheDir, () => undefined)}-fence`, 2_000);
  onTestFinished(() => host[Symbol.asyncDispose]());
  const vm = wanted(NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE);
  void host.startAgent([vm], "fence.kill=stop:1s");
  await expect.poll(() => host.hasReported(vm.vmId, Phase.PHASE_RUNNING), limit).toBe(true);
  host.agent?.kill("SIGKILL");
  await expect.poll(() => host.vmms(vm.vmId), limit).toEqual([]);
  await expect.poll(() => host.kills(), limit).toMatchObject([{ vm: vm.vmId, gone: true }]);
  const [killed] = await host.kills();
  expect((killed?.at_ms ?? 0) - (killed?.deadline_ms ?? Infinity)).toBeGreaterThanOrEqual(1_000);
});

it.each(["rejoin.scan.processes", "rejoin.adopt"])("%s that fails comes again: no VMM is left to itself", async (step) => {
  const { host, vm } = await hostFor();
  const ended = host.startAgent([vm]);
  await expect.poll(() => host.hasReported(vm.vmId, Phase.PHASE_RUNNING), limit).toBe(true);
  host.agent?.kill("SIGKILL");
  await ended;
  void host.startAgent([{ ...vm, generation: 2n, desired: Desired.DESIRED_STOPPED }], `${step}#1=throw`);
  await expect.poll(() => host.hasReported(vm.vmId, Phase.PHASE_STOPPED), limit).toBe(true);
  expect(host.vmms(vm.vmId)).toEqual([]);
});

it("a report that is lost on its way is made good by the next start", async () => {
  const { host, vm } = await hostFor();
  const ended = host.startAgent([vm], "create.node.reported=drop-send");
  await expect.poll(() => host.vmms(vm.vmId), limit).toHaveLength(1);
  host.agent?.kill("SIGKILL");
  await ended;
  expect(host.reports).toEqual([]);
  void host.startAgent([vm]);
  await expect.poll(() => host.hasReported(vm.vmId, Phase.PHASE_RUNNING), limit).toBe(true);
  expect(host.vmms(vm.vmId)).toHaveLength(1);
});

it("a VMM that another driver has started is ended: no second one comes to the VM's disk beside it", async () => {
  const { host, vm } = await hostFor();
  const ended = host.startAgent([vm]);
  await expect.poll(() => host.hasReported(vm.vmId, Phase.PHASE_RUNNING), limit).toBe(true);
  host.agent?.kill("SIGKILL");
  await ended;
  const [before] = host.vmms(vm.vmId);
  const journal = join(host.dir, "vms", vm.vmId, "vm.json");
  await writeFile(journal, (await readFile(journal, "utf8")).replace('"driver":"sim"', '"driver":"qemu"'));
  void host.startAgent([{ ...vm, generation: 2n, restartGeneration: 2n }]);
  await expect.poll(() => host.vmms(vm.vmId), limit).not.toContainEqual(before);
  await expect.poll(() => host.vmms(vm.vmId), limit).toHaveLength(1);
});
