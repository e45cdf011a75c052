// An agent that finds a journal damaged: real processes. Other VMs are adopted; of that one nothing is started, and nothing ended but by
// those who know what it is.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Desired, NodeLossPolicy, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { provision } from "@pitwall/quickstart";
import { beforeAll, expect, it, onTestFinished } from "vitest";
import { LoneHost, wanted } from "./support/lone-host.ts";

const limit = { timeout: 30_000, interval: 20 };
type Wanted = ReturnType<typeof wanted>;

let program: string;
beforeAll(async () => {
  program = `${(await provision(() => undefined)).powerunit}-fence`;
});

/** Two VMs run; the journal of one of them is cut off while no agent is there. */
async function damagedHost(
  policy: NodeLossPolicy,
  ttlMs = 20_000,
): Promise<{ host: LoneHost; good: Wanted; bad: Wanted; journal: string }> {
  const host = await LoneHost.make(program, ttlMs);
  onTestFinished(() => host[Symbol.asyncDispose]());
  const [good, bad] = [wanted(NodeLossPolicy.NODE_LOSS_POLICY_HOLD), wanted(policy)];
  const ended = host.startAgent([good, bad]);
  for (const { vmId } of [good, bad]) await expect.poll(() => host.hasReported(vmId, Phase.PHASE_RUNNING), limit).toBe(true);
  host.agent?.kill("SIGKILL");
  await ended;
  host.reports.length = 0;
  const journal = join(host.dir, "vms", bad.vmId, "vm.json");
  return { host, good, bad, journal };
}

async function cut(path: string): Promise<string> {
  const whole = await readFile(path, "utf8");
  await writeFile(path, whole.slice(0, whole.length / 2));
  return whole;
}

const saidOf = (host: LoneHost, { vmId }: Wanted): unknown => host.reports.findLast((report) => report.vmId === vmId);

it("the others go on, and it is said to have failed under its placement; what runs of it runs on, and no second one", async () => {
  const { host, good, bad, journal } = await damagedHost(NodeLossPolicy.NODE_LOSS_POLICY_HOLD);
  const whole = await cut(journal);
  const [before] = host.vmms(bad.vmId);
  const first = host.startAgent([good, bad]);
  await expect.poll(() => saidOf(host, bad), limit).toMatchObject({ epoch: 1n, phase: Phase.PHASE_FAILED, reason: "JOURNAL_DAMAGED" });
  await expect.poll(() => saidOf(host, good), limit).toMatchObject({ phase: Phase.PHASE_RUNNING });
  expect(host.reports.find(({ vmId }) => vmId === bad.vmId)).toMatchObject({ epoch: 0n, reason: "JOURNAL_DAMAGED" }); // in the hello
  expect(host.vmms(bad.vmId)).toEqual([before]);
  host.agent?.kill("SIGKILL");
  await first;
  // Somebody starts it anew, which must not be done.
  const restart = { ...bad, generation: 2n, restartGeneration: 2n };
  const second = host.startAgent([good, restart]);
  await expect.poll(() => saidOf(host, bad), limit).toMatchObject({ generation: 2n, reason: "JOURNAL_DAMAGED" });
  expect(host.vmms(bad.vmId)).toEqual([before]);
  host.agent?.kill("SIGKILL");
  await second;
  // Put right, it is as it was.
  await writeFile(journal, whole);
  void host.startAgent([good, bad]);
  await expect.poll(() => saidOf(host, bad), limit).toMatchObject({ phase: Phase.PHASE_RUNNING, reason: "" });
  expect(host.vmms(bad.vmId)).toEqual([before]);
});

it.each([
  ["stopped", { desired: Desired.DESIRED_STOPPED }],
  ["started elsewhere should its node be lost", {}],
])("one that is to be %s ends, and its disk stays", async (_, wish) => {
  const policy = "desired" in wish ? NodeLossPolicy.NODE_LOSS_POLICY_HOLD : NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE;
  const { host, good, bad, journal } = await damagedHost(policy);
  await cut(journal);
  void host.startAgent([good, { ...bad, generation: 2n, ...wish }]);
  await expect.poll(() => saidOf(host, bad), limit).toMatchObject({ generation: 2n, reason: "JOURNAL_DAMAGED" });
  expect(host.vmms(bad.vmId)).toEqual([]);
  expect(await readdir(join(host.dir, "vms"))).toContain(bad.vmId);
});

it("one that is deleted is gone, with all that works in its folder", async () => {
  const { host, good, bad, journal } = await damagedHost(NodeLossPolicy.NODE_LOSS_POLICY_HOLD);
  await cut(journal);
  void host.startAgent([good, { ...bad, generation: 2n, desired: Desired.DESIRED_DELETED }]);
  await expect.poll(() => saidOf(host, bad), limit).toMatchObject({ epoch: 1n, generation: 2n, phase: Phase.PHASE_GONE });
  expect(host.vmms(bad.vmId)).toEqual([]);
  expect(await readdir(join(host.dir, "vms"))).toEqual([good.vmId]);
});

it("when the lease is lost before anybody has said what it is, it ends: it might be started elsewhere", async () => {
  const { host, bad, journal } = await damagedHost(NodeLossPolicy.NODE_LOSS_POLICY_HOLD, 3_000);
  await cut(journal);
  void host.startAgent([], "rejoin.snapshot.received=stop:6s");
  await expect.poll(() => host.vmms(bad.vmId), limit).toEqual([]);
});
