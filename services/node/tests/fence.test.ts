// What ends a VM that may be started elsewhere once the lease is lost: the agent, or the fence when the agent is dead or stopped.
import type { Assignment } from "@pitwall/proto/pitwall/v1/link.ts";
import { NodeLossPolicy, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { provision } from "@pitwall/quickstart";
import { signalProcess, systemClock, type ProcessIdentity } from "@pitwall/runtime";
import { beforeAll, expect, it, onTestFinished } from "vitest";
import { LoneHost, wanted } from "./support/lone-host.ts";

/** Long enough for a busy machine to keep it: heartbeats are five times as frequent. */
const ttlMs = 5_000;
const trustMs = ttlMs * 0.9;
/** What a busy machine may add to killing. */
const slackMs = 2_000;
const limit = { timeout: 30_000, interval: 20 };

let program: string;
beforeAll(async () => {
  program = `${(await provision(() => undefined)).powerunit}-fence`;
});

interface Pair {
  readonly host: LoneHost;
  readonly moved: Assignment;
  readonly held: Assignment;
  vmm(of: Assignment): ProcessIdentity | undefined;
  start(): void;
}

/** A host on which two VMs run: one that may be started elsewhere, one that may not. */
async function start(): Promise<Pair> {
  const host = await LoneHost.make(program, ttlMs);
  onTestFinished(() => host[Symbol.asyncDispose]());
  const moved = wanted(NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE);
  const held = wanted(NodeLossPolicy.NODE_LOSS_POLICY_HOLD);
  const begin = (): void => void host.startAgent([moved, held]);
  begin();
  for (const { vmId } of [moved, held]) await expect.poll(() => host.hasReported(vmId, Phase.PHASE_RUNNING), limit).toBe(true);
  return { host, moved, held, start: begin, vmm: ({ vmId }) => host.vmms(vmId)[0] };
}

async function expectEnded({ vmm, moved, held }: Pair, sinceMs: number): Promise<void> {
  await expect.poll(() => vmm(moved), limit).toBeUndefined();
  expect(systemClock.monotonicMs() - sinceMs).toBeLessThan(trustMs + slackMs);
  expect(vmm(held)).toBeDefined();
}

it("kill -9 of the agent: the fence ends the VM within the lease, by its pid, and writes that down; a held VM runs on", async () => {
  const pair = await start();
  const { host, moved } = pair;
  const pid = pair.vmm(moved)?.pid;
  const killedMs = systemClock.monotonicMs();
  host.agent?.kill("SIGKILL");
  await expectEnded(pair, killedMs);
  await expect.poll(() => host.kills(), limit).toMatchObject([{ vm: moved.vmId, pid, gone: true }]);
  await expect.poll(() => host.fence, limit).toBeUndefined(); // nothing is left for it to do
});

it("a stopped agent: the fence ends the VM; the agent wakes up, says that it lost the lease, and runs it again as it is still wanted", async () => {
  const pair = await start();
  const { host, moved } = pair;
  const before = pair.vmm(moved);
  const stoppedMs = systemClock.monotonicMs();
  host.agent?.kill("SIGSTOP");
  await expectEnded(pair, stoppedMs);
  await expect.poll(() => host.kills(), limit).toMatchObject([{ vm: moved.vmId, pid: before?.pid, gone: true }]);
  host.agent?.kill("SIGCONT");
  await expect.poll(() => host.reports.some(({ vmId, reason }) => vmId === moved.vmId && reason === "LEASE_LOST"), limit).toBe(true);
  await expect.poll(() => pair.vmm(moved), limit).toBeDefined();
  expect(pair.vmm(moved)).not.toEqual(before);
});

it("no controller and no fence that works: the agent ends the VM by itself", async () => {
  const pair = await start();
  const { host } = pair;
  if (host.fence) signalProcess(host.fence, "SIGSTOP");
  const cutMs = systemClock.monotonicMs();
  host.agent?.kill("SIGUSR1");
  await expectEnded(pair, cutMs);
  expect(await host.kills()).toEqual([]);
});

it.each([
  ["killed", 0],
  ["killed with something unread", ttlMs / 2], // which resets its connection
])("a fence that is %s is back with what it had to guard", async (_, deafMs) => {
  const pair = await start();
  const { host, moved } = pair;
  const before = host.fence;
  if (before && deafMs > 0) signalProcess(before, "SIGSTOP");
  await systemClock.sleep(deafMs);
  if (before) signalProcess(before, "SIGKILL");
  await expect.poll(() => host.fence !== undefined && host.fence.pid !== before?.pid, limit).toBe(true);
  await expect.poll(() => host.guarded(), limit).toEqual([moved.vmId]);
  expect(pair.vmm(moved)).toBeDefined();
  const killedMs = systemClock.monotonicMs();
  host.agent?.kill("SIGKILL");
  await expectEnded(pair, killedMs);
});

it("an agent that is back within the lease keeps the VM and the fence", async () => {
  const pair = await start();
  const { host, moved } = pair;
  const before = [pair.vmm(moved), host.fence];
  host.agent?.kill("SIGKILL");
  host.reports.length = 0;
  pair.start();
  await expect.poll(() => host.hasReported(moved.vmId, Phase.PHASE_RUNNING), limit).toBe(true);
  const backMs = systemClock.monotonicMs();
  await expect.poll(() => systemClock.monotonicMs() - backMs > ttlMs, limit).toBe(true); // as long as the old lease could last
  expect([pair.vmm(moved), host.fence]).toEqual(before);
  expect(await host.kills()).toEqual([]);
});
