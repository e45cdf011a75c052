// An agent that is killed at each step of making and removing a jailed VM, on a host that has Firecracker: the next one finds all of it by
// the lease, and leaves nothing; and a VM that is written down runs on.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { isAlive } from "@pitwall/runtime";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { wiring } from "../src/firecracker/arguments.ts";
import type { VmmProcess, VmmSpec } from "../src/machine/vmm.ts";
import { installed, leftovers, openDriver, sayMissing } from "./support/firecracker.ts";
import { openVmMakings, type VmMakings } from "./support/vm-makings.ts";

sayMissing("a crash at each step of a jail");

describe.runIf(installed)("an agent that is killed", { timeout: 180_000 }, () => {
  let makings: VmMakings;
  let dir: string;

  beforeAll(async () => {
    makings = await openVmMakings(undefined, wiring);
    dir = join(makings.dir, "state");
    await mkdir(dir, { mode: 0o700 });
    await openDriver(dir, makings.kernel).probe();
  }, 300_000);

  afterAll(() => makings?.[Symbol.asyncDispose]());

  function startAgent(
    spec: VmmSpec,
    failpoints = "",
  ): { agent: ChildProcess; ended: Promise<number | null>; started: Promise<VmmProcess> } {
    const json = JSON.stringify({ ...spec, epoch: String(spec.epoch) });
    const agent = spawn(process.execPath, [join(import.meta.dirname, "support", "firecracker-agent.ts"), dir, json], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, PITWALL_FAILPOINTS: failpoints, PITWALL_ALLOW_FAILPOINTS: "1" },
    });
    const { promise: started, resolve } = Promise.withResolvers<VmmProcess>();
    createInterface({ input: agent.stdout }).once("line", (line) => {
      const said = JSON.parse(line) as { driver: string; pid: number; startTicks: string };
      resolve({ ...said, startTicks: BigInt(said.startTicks) });
    });
    onTestFinished(() => void agent.kill("SIGKILL"));
    return { agent, ended: new Promise((end) => agent.once("exit", end)), started };
  }

  async function expectNothing(spec: VmmSpec, before: readonly string[]): Promise<void> {
    expect(await leftovers(dir)).toEqual([]);
    expect((await readdir(spec.dir)).toSorted()).toEqual(before);
    expect((await stat(spec.disk)).uid).toBe(0);
  }

  it.each(["jail.leased", "jail.made", "create.vmm.spawned", "jail.confined", "create.vmm.configured"])(
    "at %s of a start leaves nothing after the next one's sweep, and the VM starts",
    async (step) => {
      const spec = await makings.makeSpec();
      const before = (await readdir(spec.dir)).toSorted();
      expect(await startAgent(spec, `${step}=exit`).ended).toBe(137);
      expect(await leftovers(dir)).not.toEqual([]);
      const next = openDriver(dir, makings.kernel);
      await next.sweep?.([]);
      await expectNothing(spec, before);
      const vmm = await next.start(spec);
      await vmm.kill();
      await expectNothing(spec, before);
    },
  );

  it.each(["jail.empty", "jail.gone"])("at %s of an end leaves nothing after the next one's sweep", async (step) => {
    const spec = await makings.makeSpec();
    const before = (await readdir(spec.dir)).toSorted();
    const { agent, ended, started } = startAgent(spec, `${step}=exit`);
    const process = await started;
    agent.stdin?.write("end\n");
    expect(await ended).toBe(137);
    expect(isAlive(process)).toBe(false);
    await openDriver(dir, makings.kernel).sweep?.([{ vmId: spec.vmId, process }]);
    await expectNothing(spec, before);
  });

  it("leaves a VM that is written down running, and one that is not is ended", async () => {
    const [kept, lost] = [await makings.makeSpec(), await makings.makeSpec()];
    const running: VmmProcess[] = [];
    for (const spec of [kept, lost]) {
      const { agent, ended, started } = startAgent(spec);
      running.push(await started);
      agent.kill("SIGKILL");
      await ended;
    }
    const [process, stray] = running as [VmmProcess, VmmProcess]; // two were started
    const next = openDriver(dir, makings.kernel);
    await next.sweep?.([{ vmId: kept.vmId, process }]);
    expect([isAlive(process), isAlive(stray)]).toEqual([true, false]);
    expect(await next.adopt(lost, stray)).toBeUndefined();
    expect(await next.adopt(kept, { ...process, startTicks: process.startTicks + 1n })).toBeUndefined();
    const adopted = await next.adopt(kept, process);
    await adopted?.kill();
    expect(await leftovers(dir)).toEqual([]);
  });
});
