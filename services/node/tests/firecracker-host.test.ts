// What a host holds a VMM to, on a host that has Firecracker: who it is, what becomes of one that is not confined, and of one that is silent.
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { isAlive, systemClock } from "@pitwall/runtime";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { wiring } from "../src/firecracker/arguments.ts";
import type { Vmm, VmmDriver, VmmSpec } from "../src/machine/vmm.ts";
import { installed, leftovers, openDriver, sayMissing } from "./support/firecracker.ts";
import { openVmMakings, type VmMakings } from "./support/vm-makings.ts";

const run = promisify(execFile);
sayMissing("what holds a VMM");

describe.runIf(installed)("a VMM", { timeout: 180_000 }, () => {
  let makings: VmMakings;
  let dir: string;
  let driver: VmmDriver;

  beforeAll(async () => {
    makings = await openVmMakings(undefined, wiring);
    dir = join(makings.dir, "state");
    await mkdir(dir, { mode: 0o700 });
    driver = openDriver(dir, makings.kernel);
  }, 300_000);

  afterAll(() => makings?.[Symbol.asyncDispose]());

  async function started(spec: VmmSpec): Promise<Vmm> {
    const vmm = await driver.start(spec);
    onTestFinished(() => vmm.kill());
    return vmm;
  }

  it("is a user of its own, who cannot read what another one has", async () => {
    const specs = [await makings.makeSpec(), await makings.makeSpec()];
    for (const spec of specs) await started(spec);
    const owners = await Promise.all(specs.map(async ({ disk }) => (await stat(disk)).uid));
    expect(new Set(owners).size).toBe(2);
    for (const [at, { disk }] of specs.entries()) {
      const other = String(owners[1 - at]);
      const read = run("setpriv", ["--reuid", other, "--regid", other, "--clear-groups", "head", "-c1", disk]);
      await expect(read, `${disk} is not for ${other}`).rejects.toThrow("Permission denied");
    }
  });

  it("has left nothing when it is gone, and its disk is root's again", async () => {
    const spec = await makings.makeSpec();
    const before = (await readdir(spec.dir)).toSorted();
    const vmm = await driver.start(spec);
    expect(await leftovers(dir)).toHaveLength(2);
    await vmm.kill();
    expect(await leftovers(dir)).toEqual([]);
    expect((await readdir(spec.dir)).toSorted()).toEqual(before);
    expect((await stat(spec.disk)).uid).toBe(0);
  });

  it("that has no seccomp filter is killed before its guest starts, and nothing is left", async () => {
    const spec = await makings.makeSpec();
    const careless = openDriver(dir, makings.kernel, { extra: ["--no-seccomp"] });
    await expect(careless.start(spec)).rejects.toMatchObject({
      fault: "denied",
      reason: "VMM_UNCONFINED",
      message: expect.stringContaining("fc_api has no seccomp filter") as string,
    });
    expect(await leftovers(dir)).toEqual([]);
  });

  it("that Firecracker refuses leaves nothing, and the error has Firecracker's word for it", async () => {
    const spec = { ...(await makings.makeSpec()), memBytes: 2 ** 50 };
    await expect(driver.start(spec)).rejects.toMatchObject({ fault: "unavailable", message: expect.stringMatching(/memory/i) as string });
    expect(await leftovers(dir)).toEqual([]);
  });

  it("that stands still is killed within 12 s, and says why", async () => {
    const vmm = await started(await makings.makeSpec());
    const began = systemClock.monotonicMs();
    process.kill(vmm.process.pid, "SIGSTOP");
    const exit = await vmm.exited;
    expect(systemClock.monotonicMs() - began).toBeLessThan(13_000); // and a second to see that it is gone
    expect(exit.tail).toContain("Firecracker's API did not answer");
    expect(isAlive(vmm.process)).toBe(false);
    expect(await leftovers(dir)).toEqual([]);
  });

  it("may have no more memory, processes and core dumps than its limits say", async () => {
    const spec = await makings.makeSpec();
    const vmm = await started(spec);
    const cgroup = join("/sys/fs/cgroup/pitwall", `${spec.vmId}-1`);
    const read = async (name: string): Promise<string> => (await readFile(join(cgroup, name), "utf8")).trim();
    expect(Number(await read("memory.max"))).toBe(spec.memBytes + 64 * 2 ** 20);
    expect(await read("memory.swap.max")).toBe("0");
    expect(await read("cpu.max")).toBe("100000 100000");
    const members = (await read("cgroup.procs")).split("\n");
    const programs = await Promise.all(members.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8")));
    // KVM puts a kernel thread of its own beside a VM's process; such a one has no command line.
    expect(members.filter((_, at) => programs[at] !== "")).toEqual([String(vmm.process.pid)]);
    expect(await readFile(`/proc/${vmm.process.pid}/limits`, "utf8")).toMatch(/Max core file size\s+0\s+0/);
  });
});
