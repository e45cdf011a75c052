import { Desired, NodeLossPolicy, Phase, VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { expect, test } from "vitest";
import { begin, ttlMs, type Run } from "../../tests/support/sim-peer.ts";

const idOf = (count: number): string => `00000000-0000-4000-8000-${String(count).padStart(12, "0")}`;
const [vm, held, moved] = [idOf(1), idOf(2), idOf(3)];

const run = { desired: Desired.DESIRED_RUNNING };
const remove = { desired: Desired.DESIRED_DELETED };
const reschedulable = VmSpec.fromPartial({ nodeLossPolicy: NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE });

const everything = `
boot: 10ms..2s
shutdown: 1ms..1s
faults:
  - { fault: failed-boot, chance: 0.2 }
  - { fault: slow-boot, chance: 0.2, for: 5s..90s }
  - { fault: lost-report, chance: 0.3 }
  - { fault: duplicated-report, chance: 0.3 }
  - { fault: disk-full, every: 7 }
  - { fault: vmm-killed, every: 5, after: 1s..9s }
  - { fault: agent-crash, step: create.vmm.spawned, times: 3, restart: 100ms..3s }
  - { fault: clock-jump, at: 7s, by: -10m }
  - { fault: node-loss, at: 40s, back: 5s }
`;

async function campaign(seed: string): Promise<string[]> {
  const { clock, node, peer, lines } = begin(everything, seed);
  for (let count = 1; count <= 12; count++) {
    peer.want({ vmId: idOf(count), ...run });
    await clock.advance(1_500);
  }
  await clock.advance(60_000);
  for (let count = 1; count <= 12; count += 2) peer.want({ vmId: idOf(count), ...remove });
  await clock.advance(120_000);
  const stopping = node[Symbol.asyncDispose]();
  await clock.advance(1_000);
  await stopping;
  return lines;
}

test("a seed replays a run event for event; another seed is another run", async () => {
  const first = await campaign("7");
  expect(first.length).toBeGreaterThan(200);
  expect(await campaign("7")).toEqual(first);
  expect(await campaign("8")).not.toEqual(first);
  const steps = new Set(first.map((line) => (JSON.parse(line) as { step: string }).step));
  for (const fault of ["lost-report", "duplicated-report", "agent-crash", "clock-jump", "node-loss"])
    expect(steps).toContain(`fault.${fault}`);
});

const createSteps = [
  "create.node.received",
  "create.node.journalled",
  "create.disk.cloned",
  "create.vmm.spawned",
  "create.vmm.configured",
  "create.vmm.started",
];
const deleteSteps = ["delete.node.journalled", "delete.vmm.kill", "delete.vmm.reaped", "delete.disk.gone", "delete.anchor.gone"];
const rejoinSteps = [
  "rejoin.agent.start",
  "rejoin.scan.anchors",
  "rejoin.inventory.sent",
  "rejoin.snapshot.received",
  "rejoin.diff.applied",
  "rejoin.ready",
];

test.each([...createSteps, ...deleteSteps, ...rejoinSteps])(
  "an agent that dies at %s comes back to one VMM, and after the deletion to nothing",
  async (step) => {
    const { clock, node, peer, steps } = begin(`faults: [{ fault: agent-crash, step: ${step}, restart: 3s }]`);
    peer.want({ vmId: vm, ...run });
    await clock.until(() => peer.phase(vm) === Phase.PHASE_RUNNING, 60_000);
    expect(node.host.running.map(({ dir }) => dir)).toEqual([node.host.journals.dirOf(vm)]);
    peer.want({ vmId: vm, ...remove });
    await clock.until(() => peer.phase(vm) === Phase.PHASE_GONE, 60_000);
    await clock.advance(30_000);
    expect(steps().filter((name) => name === "fault.agent-crash")).toHaveLength(1);
    expect([node.host.running, node.host.stored]).toEqual([[], []]);
  },
);

test("a VM that stops while nothing can be written is told of once it can", async () => {
  const { clock, node, peer } = begin("shutdown: 1s");
  peer.want({ vmId: vm, ...run });
  await clock.until(() => peer.phase(vm) === Phase.PHASE_RUNNING, 5_000);
  peer.want({ vmId: vm, desired: Desired.DESIRED_STOPPED });
  await clock.until(() => peer.phase(vm) === Phase.PHASE_STOPPING, 5_000);
  node.host.breakDisk(5_000);
  await clock.until(() => node.host.running.length === 0, 4_000);
  expect(peer.phase(vm)).toBe(Phase.PHASE_STOPPING);
  await clock.until(() => peer.phase(vm) === Phase.PHASE_STOPPED, 10_000);
});

test("an agent that dies adopts its VM: the guest never notices", async () => {
  const { clock, node, peer } = begin("{}");
  peer.want({ vmId: vm, ...run });
  await clock.until(() => peer.phase(vm) === Phase.PHASE_RUNNING, 5_000);
  const [before] = node.host.running;
  node.crash(2_000);
  await clock.until(() => node.isUp, 5_000);
  await clock.advance(5_000);
  expect(node.host.running).toEqual([before]);
  expect(peer.phase(vm)).toBe(Phase.PHASE_RUNNING);
});

test("a host that loses power starts its VMs again, once a controller says that they are still wanted", async () => {
  const { clock, node, peer } = begin("{}");
  peer.want({ vmId: vm, ...run });
  await clock.until(() => peer.phase(vm) === Phase.PHASE_RUNNING, 5_000);
  const [before] = node.host.running;
  peer.cut();
  node.lose(1_000);
  await clock.advance(10_000);
  expect(node.isUp).toBe(true);
  node.crash(1_000); // the next agent waits, too
  await clock.advance(10_000);
  expect(node.host.running).toEqual([]);
  peer.isReachable = true;
  await clock.advance(10_000);
  expect(node.host.running).toHaveLength(1);
  expect(node.host.running).not.toEqual([before]);
  expect(peer.phase(vm)).toBe(Phase.PHASE_RUNNING);
});

test("a report that is lost with its connection is made good by the next hello", async () => {
  const { clock, peer, steps } = begin("faults: [{ fault: lost-report, phase: RUNNING }]");
  peer.want({ vmId: vm, ...run });
  await clock.until(() => peer.phase(vm) === Phase.PHASE_RUNNING, 15_000);
  expect(steps().filter((step) => step === "link.hello")).toHaveLength(2);
  expect(peer.reports.filter(({ phase }) => phase === Phase.PHASE_RUNNING)).toHaveLength(1);
});

test.each(["{}", "faults: [{ fault: lost-report, phase: GONE }]"])("a hello tells of no VM that is gone, with %s", async (script) => {
  const { clock, peer } = begin(script);
  for (const vmId of [vm, held, moved]) peer.want({ vmId, ...run });
  await clock.advance(60_000);
  for (const vmId of [held, moved]) peer.want({ vmId, ...remove });
  await clock.advance(60_000);
  peer.drop();
  await clock.advance(10_000);
  expect([peer.inventory, peer.phase(held), peer.phase(moved)]).toEqual([[vm], Phase.PHASE_GONE, Phase.PHASE_GONE]);
});

test("a VM that a complete list lacks is told of, whatever the hello before it said", async () => {
  const { clock, peer } = begin("{}");
  peer.want({ vmId: vm, ...run });
  await clock.until(() => peer.phase(vm) === Phase.PHASE_RUNNING, 5_000);
  peer.forget(vm);
  const before = peer.reports.length;
  peer.drop();
  await clock.advance(10_000);
  expect(peer.reports.slice(before).map(({ phase }) => phase)).toEqual([Phase.PHASE_RUNNING, Phase.PHASE_RUNNING]); // of the hello, and behind it
});

test("an assignment that is said again is answered again", async () => {
  const { clock, peer } = begin("{}");
  peer.want({ vmId: vm, ...run });
  await clock.until(() => peer.phase(vm) === Phase.PHASE_RUNNING, 5_000);
  const before = peer.reports.length;
  peer.repeat();
  await clock.advance(10);
  expect(peer.reports.slice(before).map(({ phase }) => phase)).toEqual([Phase.PHASE_RUNNING]);
});

test("without acknowledgements a VM that may be started elsewhere ends before the controller's patience does; others run on", async () => {
  const { clock, node, peer } = begin("{}");
  peer.want({ vmId: held, ...run });
  peer.want({ vmId: moved, spec: reschedulable, ...run });
  await clock.until(() => [held, moved].every((id) => peer.phase(id) === Phase.PHASE_RUNNING), 5_000);
  await clock.advance(5_000);
  peer.cut();
  const cutMs = clock.monotonicMs();
  await clock.until(() => node.host.running.length === 1, ttlMs);
  expect(clock.monotonicMs() - cutMs).toBeLessThanOrEqual(ttlMs * 0.9 + 10);
  expect(node.host.running.map(({ dir }) => dir)).toEqual([node.host.journals.dirOf(held)]);
  await clock.advance(60_000);
  expect(node.host.running).toHaveLength(1);
  peer.isReachable = true;
  await clock.until(() => node.host.running.length === 2, 20_000); // the controller still wants it here
  await clock.until(() => peer.phase(moved) === Phase.PHASE_RUNNING, 5_000);
  expect(peer.reports.some(({ reason }) => reason === "LEASE_LOST")).toBe(true);
});

test("a VM whose host was off, and that may run here only when the first lease has long begun, runs then", async () => {
  const { clock, node, peer } = begin("{}");
  peer.want({ vmId: moved, spec: reschedulable, ...run });
  await clock.until(() => peer.phase(moved) === Phase.PHASE_RUNNING, 5_000);
  peer.welcomeMs = ttlMs * 0.95;
  node.lose(1_000);
  await clock.advance(ttlMs * 2);
  peer.welcomeMs = 0;
  await clock.advance(ttlMs * 2);
  expect(peer.phase(moved)).toBe(Phase.PHASE_RUNNING);
  expect(node.host.running).toHaveLength(1);
});

test("a new VM that comes while there is no lease runs once there is one, also when a hello has told of it meanwhile", async () => {
  const { clock, peer } = begin("{}");
  peer.welcomeMs = ttlMs * 0.95; // too late to be worth a lease: heartbeats bring one
  peer.want({ vmId: moved, spec: reschedulable, ...run });
  await clock.advance(peer.welcomeMs + 100);
  peer.drop();
  await clock.advance(ttlMs * 4);
  expect(peer.phase(moved)).toBe(Phase.PHASE_RUNNING);
});

test("the fence ends what may be started elsewhere when the agent is dead", async () => {
  const { clock, node, peer, steps } = begin("{}");
  peer.want({ vmId: moved, spec: reschedulable, ...run });
  await clock.until(() => peer.phase(moved) === Phase.PHASE_RUNNING, 5_000);
  node.crash(60_000);
  await clock.advance(ttlMs * 0.9);
  expect(node.host.running).toEqual([]);
  expect(steps()).toContain("fence.kill");
});

test("an agent that is back in time keeps the lease of the one before", async () => {
  const { clock, node, peer } = begin("{}");
  peer.want({ vmId: moved, spec: reschedulable, ...run });
  await clock.until(() => peer.phase(moved) === Phase.PHASE_RUNNING, 5_000);
  const [before] = node.host.running;
  node.crash(3_000);
  await clock.advance(60_000);
  expect(node.host.running).toEqual([before]);
});

/** The phases that were reported of a VM, each once in a row. */
const phasesOf = ({ peer }: Run, vmId: string): Phase[] =>
  peer.reports.filter((report) => report.vmId === vmId).flatMap(({ phase }, at, all) => (phase === all[at - 1]?.phase ? [] : [phase]));
const boot = [Phase.PHASE_PREPARING, Phase.PHASE_BOOTING, Phase.PHASE_RUNNING];

test("a VM that was booted before its latest restart was asked for is stopped and started, once", async () => {
  const ran = begin("");
  ran.peer.want({ vmId: vm, ...run, restartGeneration: 1n });
  await ran.clock.advance(60_000);
  ran.peer.want({ vmId: vm, restartGeneration: 2n });
  await ran.clock.advance(60_000);
  ran.peer.want({ vmId: vm }); // a change that starts nothing
  await ran.clock.advance(60_000);
  expect(phasesOf(ran, vm)).toEqual([...boot, Phase.PHASE_STOPPING, ...boot]);
  expect(ran.peer.seen.get(vm)).toMatchObject({ phase: Phase.PHASE_RUNNING, generation: 3n });
});

test("a restart during a boot begins it anew", async () => {
  const ran = begin("boot: 5s..5s");
  ran.peer.want({ vmId: vm, ...run, restartGeneration: 1n });
  await ran.clock.advance(2_000);
  expect(ran.peer.phase(vm)).toBe(Phase.PHASE_BOOTING);
  ran.peer.want({ vmId: vm, restartGeneration: 2n });
  await ran.clock.advance(60_000);
  expect(phasesOf(ran, vm).filter((phase) => phase === Phase.PHASE_RUNNING)).toHaveLength(1);
  expect(ran.peer.seen.get(vm)).toMatchObject({ phase: Phase.PHASE_RUNNING, generation: 2n });
});

test("an agent that dies in a restart finishes it", async () => {
  const ran = begin("shutdown: 5s..5s");
  ran.peer.want({ vmId: vm, ...run, restartGeneration: 1n });
  await ran.clock.advance(60_000);
  ran.peer.want({ vmId: vm, restartGeneration: 2n });
  await ran.clock.advance(2_000);
  expect(ran.peer.phase(vm)).toBe(Phase.PHASE_STOPPING);
  ran.node.crash(500);
  await ran.clock.advance(120_000);
  expect(ran.peer.seen.get(vm)).toMatchObject({ phase: Phase.PHASE_RUNNING, generation: 2n });
});

test("a change of a VM that has failed is taken and starts nothing", async () => {
  const ran = begin("faults: [{ fault: failed-boot, vm: 1 }]");
  ran.peer.want({ vmId: vm, ...run, restartGeneration: 1n });
  await ran.clock.advance(60_000);
  expect(ran.peer.phase(vm)).toBe(Phase.PHASE_FAILED);
  ran.peer.want({ vmId: vm });
  await ran.clock.advance(60_000);
  expect(ran.peer.seen.get(vm)).toMatchObject({ phase: Phase.PHASE_FAILED, generation: 2n });
  const failed = [Phase.PHASE_PREPARING, Phase.PHASE_BOOTING, Phase.PHASE_FAILED];
  expect(phasesOf(ran, vm)).toEqual(failed);
  ran.peer.want({ vmId: vm, restartGeneration: 3n });
  await ran.clock.advance(60_000);
  expect(phasesOf(ran, vm)).toEqual([...failed, ...failed]);
});

test("an assignment that is late does not bring back a VM that is gone; one of a later placement does", async () => {
  const ran = begin("");
  ran.peer.want({ vmId: vm, ...run, restartGeneration: 1n });
  await ran.clock.advance(60_000);
  const late = ran.peer.wanted(vm);
  ran.peer.want({ vmId: vm, ...remove });
  await ran.clock.advance(60_000);
  expect(ran.peer.phase(vm)).toBe(Phase.PHASE_GONE);
  ran.peer.drop(); // the next complete list no longer holds it
  await ran.clock.advance(60_000);
  ran.peer.say(late);
  await ran.clock.advance(60_000);
  expect(ran.peer.phase(vm)).toBe(Phase.PHASE_GONE);
  ran.peer.say({ ...late, epoch: 2n });
  await ran.clock.advance(60_000);
  expect(ran.peer.phase(vm)).toBe(Phase.PHASE_RUNNING);
});

test("a VM that ended with the lease runs again when the lease is back, also when the agent has died meanwhile", async () => {
  const ran = begin("");
  ran.peer.want({ vmId: moved, ...run, spec: reschedulable, restartGeneration: 1n });
  await ran.clock.advance(60_000);
  ran.peer.cut();
  await ran.clock.advance(60_000);
  ran.node.crash(500);
  await ran.clock.advance(10_000);
  ran.peer.isReachable = true;
  await ran.clock.advance(60_000);
  expect(ran.peer.seen.get(moved)).toMatchObject({ phase: Phase.PHASE_RUNNING, reason: "" });
});

test("a VM whose start meets the very end of the lease runs when the lease is back", async () => {
  const wantedMs = 100;
  for (let offMs = -20; offMs <= 20; offMs += 2) {
    const prepareMs = ttlMs * 0.9 - wantedMs + offMs;
    const ran = begin(`prepare: ${prepareMs}ms..${prepareMs}ms`);
    await ran.clock.advance(wantedMs);
    ran.peer.want({ vmId: moved, ...run, spec: reschedulable, restartGeneration: 1n });
    await ran.clock.advance(wantedMs);
    ran.peer.cut();
    await ran.clock.advance(60_000);
    ran.peer.isReachable = true;
    await ran.clock.advance(60_000);
    expect(ran.peer.seen.get(moved), `${offMs} ms from the end of the lease`).toMatchObject({ phase: Phase.PHASE_RUNNING, reason: "" });
  }
});
