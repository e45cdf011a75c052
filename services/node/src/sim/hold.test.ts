import { Desired, NodeLossPolicy, Phase, VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { timeLimit } from "@pitwall/runtime";
import { expect, test } from "vitest";
import { begin, ttlMs, type Run } from "../../tests/support/sim-peer.ts";

const vm = "00000000-0000-4000-8000-000000000001";

const run = { desired: Desired.DESIRED_RUNNING };
const pause = { desired: Desired.DESIRED_PAUSED };
const suspend = { desired: Desired.DESIRED_SUSPENDED };
const stop = { desired: Desired.DESIRED_STOPPED };
const remove = { desired: Desired.DESIRED_DELETED };

/** A VM that runs, and whose later changes are no starts. */
async function running(script = "{}", spec: Partial<VmSpec> = {}): Promise<Run> {
  const all = begin(script);
  all.peer.want({ vmId: vm, restartGeneration: 1n, spec: VmSpec.fromPartial(spec), ...run });
  await all.clock.until(() => all.peer.phase(vm) === Phase.PHASE_RUNNING, 60_000);
  return all;
}

async function reach({ clock, peer }: Run, wish: { desired: Desired }, phase: Phase, limitMs = 30_000): Promise<void> {
  peer.want({ vmId: vm, ...wish });
  const { generation } = peer.wanted(vm);
  await clock.until(() => peer.phase(vm) === phase && peer.seen.get(vm)?.generation === generation, limitMs);
}

const boots = ({ peer }: Run): number => peer.reports.filter(({ phase }) => phase === Phase.PHASE_BOOTING).length;

test("a paused VM keeps its VMM and goes on in it", async () => {
  const all = await running();
  const [before] = all.node.host.running;
  await reach(all, pause, Phase.PHASE_PAUSED);
  await reach(all, run, Phase.PHASE_RUNNING);
  expect(all.node.host.running).toEqual([before]);
  expect(boots(all)).toBe(1);
});

test.each(["running", "paused"])("a VM that was %s is suspended, has no VMM then, and goes on in another, without a boot", async (from) => {
  const all = await running();
  if (from === "paused") await reach(all, pause, Phase.PHASE_PAUSED);
  await reach(all, suspend, Phase.PHASE_SUSPENDED);
  expect(all.node.host.running).toEqual([]);
  await reach(all, run, Phase.PHASE_RUNNING);
  expect(all.node.host.running).toHaveLength(1);
  expect(boots(all)).toBe(1);
  expect(all.peer.reports.some(({ phase }) => phase === Phase.PHASE_RESUMING)).toBe(true);
});

// What was asked for while nothing came through comes at once: the pause finds a VM that has not woken yet.
test.each([0, 1, 2, 5, 1_000])(
  "a VM that was suspended, to go on, and then to be paused, wakes and is paused (%i ms between)",
  async (betweenMs) => {
    const all = await running();
    await reach(all, suspend, Phase.PHASE_SUSPENDED);
    all.peer.want({ vmId: vm, ...run });
    await all.clock.advance(betweenMs);
    await reach(all, pause, Phase.PHASE_PAUSED);
    expect([all.node.host.running.length, boots(all)]).toEqual([1, 1]);
    await reach(all, run, Phase.PHASE_RUNNING);
    expect([all.node.host.running.length, boots(all)]).toEqual([1, 1]);
  },
);

test.each(["suspend.node.journalled", "suspend.memory.kept"])("an agent that dies at %s suspends the VM when it is back", async (step) => {
  const all = await running(`faults: [{ fault: agent-crash, step: ${step}, restart: 3s }]`);
  await reach(all, suspend, Phase.PHASE_SUSPENDED);
  expect(all.steps().filter((at) => at === "fault.agent-crash")).toHaveLength(1);
  expect(all.node.host.running).toEqual([]);
  await reach(all, run, Phase.PHASE_RUNNING);
  expect(boots(all)).toBe(1);
});

test.each(["suspend.node.journalled", "suspend.memory.kept"])(
  "a VM that is to run on after all, when the agent has died at %s, does",
  async (step) => {
    const all = await running(`faults: [{ fault: agent-crash, step: ${step}, restart: 3s }]`);
    all.peer.want({ vmId: vm, ...suspend });
    await all.clock.until(() => !all.node.isUp, 5_000);
    await reach(all, run, Phase.PHASE_RUNNING);
    await all.clock.advance(30_000);
    expect([all.node.host.running.length, boots(all)]).toEqual([1, 1]);
  },
);

// The first passing is the boot's, where there is one.
test.each([
  ["wake.memory.gone", 1],
  ["create.vmm.spawned", 2],
  ["create.vmm.configured", 2],
  ["create.vmm.started", 2],
])("an agent that dies at %s of a waking brings it about when it is back, without a boot", async (step, times) => {
  const all = await running(`faults: [{ fault: agent-crash, step: ${step}, restart: 3s, times: ${times} }]`);
  const before = boots(all);
  await reach(all, suspend, Phase.PHASE_SUSPENDED);
  await reach(all, run, Phase.PHASE_RUNNING);
  expect(all.steps().filter((at) => at === "fault.agent-crash")).toHaveLength(times);
  expect([all.node.host.running.length, boots(all)]).toEqual([1, before]);
  await reach(all, remove, Phase.PHASE_GONE);
  expect([all.node.host.running, all.node.host.stored]).toEqual([[], []]);
});

test("a suspended VM outlives its host's loss of power; a paused one does not, and says so", async () => {
  const all = await running();
  await reach(all, suspend, Phase.PHASE_SUSPENDED);
  all.node.lose(1_000);
  await all.clock.advance(10_000);
  expect(all.peer.phase(vm)).toBe(Phase.PHASE_SUSPENDED);
  await reach(all, run, Phase.PHASE_RUNNING);
  expect(boots(all)).toBe(1);
  await reach(all, pause, Phase.PHASE_PAUSED);
  all.node.lose(1_000);
  await all.clock.advance(10_000);
  expect(all.peer.seen.get(vm)).toMatchObject({ phase: Phase.PHASE_FAILED, reason: "MEMORY_LOST" });
});

test("a VM that cannot be suspended runs on, and its owner is told why", async () => {
  const all = await running();
  const [before] = all.node.host.running;
  using _ = all.node.strikeAt("suspend.node.journalled", () => all.node.host.breakDisk(1_000));
  await reach(all, suspend, Phase.PHASE_RUNNING);
  expect(all.peer.seen.get(vm)).toMatchObject({ reason: "SUSPEND_FAILED", message: expect.stringContaining("i/o error") as string });
  await all.clock.advance(30_000);
  expect(all.node.host.running).toEqual([before]);
  await reach(all, suspend, Phase.PHASE_SUSPENDED);
});

test.each([
  ["run", run, Phase.PHASE_RUNNING],
  ["be paused then", pause, Phase.PHASE_PAUSED],
])("a waking that fails is tried again, and what the VM had in memory is not given up: it is to %s", async (_, wish, phase) => {
  const all = await running();
  await reach(all, suspend, Phase.PHASE_SUSPENDED);
  using struck = all.node.strikeAt("create.vmm.spawned", () => all.node.host.breakDisk(1_000)); // its memory cannot be taken from the disk
  expect(struck).toBeDefined();
  all.peer.want({ vmId: vm, ...run });
  await reach(all, wish, phase, 60_000);
  expect([boots(all), all.node.host.running.length]).toEqual([1, 1]);
});

test.each([
  ["run on", run, Phase.PHASE_RUNNING],
  ["be removed", remove, Phase.PHASE_GONE],
])("a VM that is being suspended and is to %s after all does so at once", async (_, wish, phase) => {
  const all = await running("suspend: 5m");
  all.peer.want({ vmId: vm, ...suspend });
  await all.clock.until(() => all.peer.phase(vm) === Phase.PHASE_SUSPENDING, 5_000);
  await reach(all, wish, phase, 5_000);
  expect(boots(all)).toBe(1);
});

test("a VM whose pause could not be written down before it was to run on does run on", async () => {
  const all = await running();
  all.node.host.breakDisk(3_000);
  all.peer.want({ vmId: vm, ...pause });
  await all.clock.advance(1_000);
  await reach(all, run, Phase.PHASE_RUNNING);
  using limit = timeLimit(all.clock, 1_000);
  await using guest = await all.node.host.running[0]?.guest.open(limit.signal); // a paused one opens nothing
  expect(guest).toBeDefined();
});

test("a suspended VM that finds no lease when it is to wake waits for one on the disk", async () => {
  const all = await running("{}", { nodeLossPolicy: NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE });
  await reach(all, suspend, Phase.PHASE_SUSPENDED);
  using _ = all.node.strikeAt("create.vmm.spawned", () => all.peer.cut());
  all.peer.want({ vmId: vm, ...run });
  await all.clock.advance(2 * ttlMs);
  all.peer.isReachable = true;
  await all.clock.until(() => all.peer.phase(vm) === Phase.PHASE_RUNNING, 60_000);
  expect(all.node.host.running).toHaveLength(1);
});

test("a suspended VM that is stopped, or started anew, boots: what it had in memory is gone", async () => {
  const all = await running();
  await reach(all, suspend, Phase.PHASE_SUSPENDED);
  await reach(all, stop, Phase.PHASE_STOPPED);
  all.peer.want({ vmId: vm, restartGeneration: 4n, ...run });
  await all.clock.until(() => all.peer.phase(vm) === Phase.PHASE_RUNNING, 30_000);
  expect(boots(all)).toBe(2);
  await reach(all, suspend, Phase.PHASE_SUSPENDED);
  all.peer.want({ vmId: vm, restartGeneration: 6n, ...run });
  await all.clock.until(() => all.peer.phase(vm) === Phase.PHASE_RUNNING, 30_000);
  expect(boots(all)).toBe(3);
  await reach(all, remove, Phase.PHASE_GONE);
  expect([all.node.host.running, all.node.host.stored]).toEqual([[], []]);
});

test("a paused VM stops in good order: it goes on for that", async () => {
  const all = await running("shutdown: 1s");
  await reach(all, pause, Phase.PHASE_PAUSED);
  const askedMs = all.clock.monotonicMs();
  await reach(all, stop, Phase.PHASE_STOPPED);
  expect(all.clock.monotonicMs() - askedMs).toBeLessThan(3_000); // one that does not answer is killed later
});

test("a VM that was lost is neither paused nor suspended, and says so", async () => {
  const all = await running("faults: [{ fault: vmm-killed, after: 5s }]");
  await all.clock.until(() => all.peer.phase(vm) === Phase.PHASE_FAILED, 10_000);
  for (const wish of [pause, suspend]) {
    await reach(all, wish, Phase.PHASE_FAILED);
    expect(all.peer.seen.get(vm)?.reason).toBe("VMM_EXITED");
  }
});

test("one that may be started elsewhere ends with the lease while it is paused, and is left alone while it is on the disk", async () => {
  const all = await running("{}", { nodeLossPolicy: NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE });
  await reach(all, pause, Phase.PHASE_PAUSED);
  all.peer.cut();
  await all.clock.advance(2 * ttlMs);
  expect(all.node.host.running).toEqual([]);
  all.peer.isReachable = true;
  all.peer.want({ vmId: vm, restartGeneration: 3n, ...run });
  await all.clock.until(() => all.peer.phase(vm) === Phase.PHASE_RUNNING, 60_000);
  await reach(all, suspend, Phase.PHASE_SUSPENDED);
  all.peer.cut();
  await all.clock.advance(2 * ttlMs);
  all.peer.isReachable = true;
  await all.clock.advance(2 * ttlMs);
  expect(all.peer.phase(vm)).toBe(Phase.PHASE_SUSPENDED);
  await reach(all, run, Phase.PHASE_RUNNING, 60_000);
});
