// What ends a VM that may be started elsewhere once the lease is lost: the agent, or the fence when the agent is dead or stopped.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Assignment, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired, NodeLossPolicy, Phase, VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { provision } from "@pitwall/quickstart";
import { processesIn, signalProcess, systemClock, type ProcessIdentity } from "@pitwall/runtime";
import { beforeAll, expect, it, onTestFinished } from "vitest";

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

const assignment = (nodeLossPolicy: NodeLossPolicy): Assignment =>
  Assignment.fromPartial({
    ...{ vmId: crypto.randomUUID(), vmName: "vm", generation: 1n, epoch: 1n, desired: Desired.DESIRED_RUNNING },
    spec: VmSpec.fromPartial({ cpuMillis: 1000, memBytes: 2n ** 28n, nodeLossPolicy }),
  });

class Host {
  readonly dir: string;
  readonly moved = assignment(NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE);
  readonly held = assignment(NodeLossPolicy.NODE_LOSS_POLICY_HOLD);
  readonly reports: VmReport[] = [];
  agent: ChildProcess | undefined;

  constructor(dir: string) {
    this.dir = dir;
  }

  startAgent(): void {
    const script = join(import.meta.dirname, "support", "fenced-agent.ts");
    const wanted = JSON.stringify([this.moved, this.held].map((one) => Assignment.toJSON(one)));
    const agent = spawn(process.execPath, [script, this.dir, program, String(ttlMs), wanted], { stdio: ["ignore", "pipe", "inherit"] });
    createInterface({ input: agent.stdout }).on("line", (line) => this.reports.push(VmReport.fromJSON(JSON.parse(line))));
    this.agent = agent;
  }

  vmm({ vmId }: Assignment): ProcessIdentity | undefined {
    return processesIn(join(this.dir, "vms", vmId))[0];
  }

  get fence(): ProcessIdentity | undefined {
    return processesIn(join(this.dir, "fence"))[0];
  }

  /** What the fence says that it guards. */
  async guarded(): Promise<readonly string[]> {
    const socket = connect(`/proc/${this.fence?.pid}/cwd/fence.sock`);
    try {
      socket.on("error", () => undefined).write('{"id":1,"op":"hello"}\n');
      for await (const line of createInterface({ input: socket })) return (JSON.parse(line) as { vms?: string[] }).vms ?? [];
      return [];
    } finally {
      socket.destroy();
    }
  }

  async kills(): Promise<{ vm: string; pid: number; gone: boolean }[]> {
    const text = await readFile(join(this.dir, "fence", "fence.log"), "utf8").catch(() => "");
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as { vm: string; pid: number; gone: boolean });
  }

  hasRun({ vmId }: Assignment): boolean {
    return this.reports.some((report) => report.vmId === vmId && report.phase === Phase.PHASE_RUNNING);
  }
}

/** A host on which both VMs run. */
async function start(): Promise<Host> {
  const host = new Host(await mkdtemp(join(tmpdir(), "pitwall-fence-")));
  onTestFinished(async () => {
    host.agent?.kill("SIGKILL");
    const left = [host.fence, host.vmm(host.moved), host.vmm(host.held)];
    for (const process of left) if (process) signalProcess(process, "SIGKILL");
    await rm(host.dir, { recursive: true, force: true, maxRetries: 5 });
  });
  host.startAgent();
  await expect.poll(() => host.hasRun(host.moved) && host.hasRun(host.held), limit).toBe(true);
  return host;
}

async function expectEnded(host: Host, sinceMs: number): Promise<void> {
  await expect.poll(() => host.vmm(host.moved), limit).toBeUndefined();
  expect(systemClock.monotonicMs() - sinceMs).toBeLessThan(trustMs + slackMs);
  expect(host.vmm(host.held)).toBeDefined();
}

it("kill -9 of the agent: the fence ends the VM within the lease, by its pid, and writes that down; a held VM runs on", async () => {
  const host = await start();
  const vmm = host.vmm(host.moved);
  const killedMs = systemClock.monotonicMs();
  host.agent?.kill("SIGKILL");
  await expectEnded(host, killedMs);
  await expect.poll(() => host.kills(), limit).toMatchObject([{ vm: host.moved.vmId, pid: vmm?.pid, gone: true }]);
  await expect.poll(() => host.fence, limit).toBeUndefined(); // nothing is left for it to do
});

it("a stopped agent: the fence ends the VM; the agent wakes up, says that it lost the lease, and runs it again when it is still wanted", async () => {
  const host = await start();
  const vmm = host.vmm(host.moved);
  const stoppedMs = systemClock.monotonicMs();
  host.agent?.kill("SIGSTOP");
  await expectEnded(host, stoppedMs);
  await expect.poll(() => host.kills(), limit).toMatchObject([{ vm: host.moved.vmId, pid: vmm?.pid, gone: true }]);
  host.agent?.kill("SIGCONT");
  await expect.poll(() => host.reports.some(({ vmId, reason }) => vmId === host.moved.vmId && reason === "LEASE_LOST"), limit).toBe(true);
  await expect.poll(() => host.vmm(host.moved), limit).toBeDefined();
  expect(host.vmm(host.moved)).not.toEqual(vmm);
});

it("no controller and no fence that works: the agent ends the VM by itself", async () => {
  const host = await start();
  const fence = host.fence;
  expect(fence).toBeDefined();
  if (fence) signalProcess(fence, "SIGSTOP");
  const cutMs = systemClock.monotonicMs();
  host.agent?.kill("SIGUSR1");
  await expectEnded(host, cutMs);
  expect(await host.kills()).toEqual([]);
});

it("a fence that is killed is back with what it had to guard", async () => {
  const host = await start();
  const before = host.fence;
  if (before) signalProcess(before, "SIGKILL");
  await expect.poll(() => host.fence !== undefined && host.fence.pid !== before?.pid, limit).toBe(true);
  await expect.poll(() => host.guarded(), limit).toEqual([host.moved.vmId]);
  expect(host.vmm(host.moved)).toBeDefined();
  const killedMs = systemClock.monotonicMs();
  host.agent?.kill("SIGKILL");
  await expectEnded(host, killedMs);
});

it("an agent that is back within the lease keeps the VM and the fence", async () => {
  const host = await start();
  const [vmm, fence] = [host.vmm(host.moved), host.fence];
  host.agent?.kill("SIGKILL");
  host.reports.length = 0;
  host.startAgent();
  await expect.poll(() => host.hasRun(host.moved), limit).toBe(true);
  const backMs = systemClock.monotonicMs();
  await expect.poll(() => systemClock.monotonicMs() - backMs > ttlMs, limit).toBe(true); // as long as the old lease could last
  expect([host.vmm(host.moved), host.fence]).toEqual([vmm, fence]);
  expect(await host.kills()).toEqual([]);
});
