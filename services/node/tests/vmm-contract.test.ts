// The contract of every driver (src/machine/vmm.ts), held by each that ships.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { GuestState } from "@pitwall/proto/pitwall/v1/guest.ts";
import { identify, isAlive, processesIn } from "@pitwall/runtime";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { openGuest } from "../src/guest/client.ts";
import type { Vmm, VmmDriver, VmmSpec } from "../src/machine/vmm.ts";
import { openQemuDriver } from "../src/qemu/driver.ts";
import { openSimDriver } from "../src/sim/driver.ts";
import { openVmMakings, type VmMakings } from "./support/vm-makings.ts";

const mib = 2 ** 20;
let makings: VmMakings;

beforeAll(async () => {
  makings = await openVmMakings();
});

afterAll(() => makings?.[Symbol.asyncDispose]());

const drivers: Record<string, () => VmmDriver> = {
  qemu: () => openQemuDriver({ kernel: makings.kernel, cacheDir: makings.dir }),
  sim: () => openSimDriver(),
};

const makeSpec = (): Promise<VmmSpec> => makings.makeSpec();

async function started(driver: VmmDriver, spec: VmmSpec): Promise<Vmm> {
  const vmm = await driver.start(spec);
  onTestFinished(() => vmm.kill());
  return vmm;
}

/** Resolves when powerunit says that it is ready. */
async function untilReady(vmm: Vmm): Promise<void> {
  await using guest = await openGuest(vmm, AbortSignal.timeout(30_000));
  for await (const { state } of guest.control.watchState({})) if (state === GuestState.GUEST_STATE_READY) return;
  throw new Error("the guest's state ended before it was ready");
}

describe.each(Object.keys(drivers))("%s", (name) => {
  const open = (): VmmDriver => drivers[name]!(); // the keys are the table's own

  it("says what it proved by probing", async () => {
    const driver = open();
    expect(driver.name).toBe(name);
    expect(await driver.probe()).toEqual({
      version: expect.stringMatching(/\d/) as string,
      acceleration: expect.stringMatching(/^(kvm|tcg|none)$/) as string,
    });
  });

  it("starts a guest that becomes ready, and names a live process", async () => {
    const vmm = await started(open(), await makeSpec());
    expect(isAlive(vmm.process)).toBe(true);
    expect(vmm.process.driver).toBe(name);
    await untilReady(vmm);
    const { cpuMs, rssBytes } = await vmm.usage();
    expect(cpuMs).toBeGreaterThanOrEqual(0);
    expect(rssBytes).toBeGreaterThan(mib);
  });

  it("opens a channel again after one was closed, and a new one ends the one before", async () => {
    const vmm = await started(open(), await makeSpec());
    await untilReady(vmm);
    const first = await vmm.openChannel(AbortSignal.timeout(10_000));
    const ended = new Promise((resolve) => first.once("close", resolve));
    await untilReady(vmm);
    await ended;
  });

  it("refuses a channel when the signal aborts", async () => {
    const vmm = await started(open(), await makeSpec());
    await expect(vmm.openChannel(AbortSignal.abort(new Error("enough")))).rejects.toMatchObject({ fault: "unavailable" });
  });

  it("kills at once, twice as well as once, and tells of the end", async () => {
    const vmm = await open().start(await makeSpec());
    await vmm.kill();
    await vmm.kill();
    expect(await vmm.exited).toMatchObject({ signal: "SIGKILL", tail: expect.any(String) as string });
    expect(isAlive(vmm.process)).toBe(false);
    await expect(vmm.openChannel(AbortSignal.timeout(1_000))).rejects.toMatchObject({ fault: "unavailable" });
  });

  it("tells of an end that nobody asked it for", async () => {
    const vmm = await open().start(await makeSpec());
    process.kill(vmm.process.pid, "SIGTERM");
    await vmm.exited;
    expect(identify(vmm.process.pid)).toBeUndefined();
  });

  it("pauses and resumes: a paused guest uses no CPU, a resumed one answers", async () => {
    const vmm = await started(open(), await makeSpec());
    await untilReady(vmm);
    await vmm.pause();
    const before = (await vmm.usage()).cpuMs;
    await expect(openGuest(vmm, AbortSignal.timeout(700))).rejects.toMatchObject({ fault: "unavailable" });
    expect((await vmm.usage()).cpuMs - before).toBeLessThan(400);
    await vmm.resume();
    await untilReady(vmm);
  });

  it("adopts a running VMM by pid and start time, and follows it to its end", async () => {
    const spec = await makeSpec();
    const vmm = await started(open(), spec);
    await untilReady(vmm);
    const adopted = await open().adopt(spec, vmm.process);
    expect(adopted?.process).toEqual(vmm.process);
    await untilReady(adopted!); // asserted just above
    await adopted?.kill();
    expect(await adopted?.exited).toMatchObject({ code: null, signal: null });
    await vmm.exited;
  });

  it("does not adopt a process that has the pid and another start time", async () => {
    const spec = await makeSpec();
    const vmm = await started(open(), spec);
    expect(await open().adopt(spec, { ...vmm.process, startTicks: vmm.process.startTicks + 1n })).toBeUndefined();
  });

  it("does not adopt a process that is gone", async () => {
    const spec = await makeSpec();
    const vmm = await open().start(spec);
    await vmm.kill();
    expect(await open().adopt(spec, vmm.process)).toBeUndefined();
  });

  it("shuts down by the guest's own doing", async () => {
    const vmm = await started(open(), await makeSpec());
    await untilReady(vmm);
    await using guest = await openGuest(vmm, AbortSignal.timeout(10_000));
    await guest.control.shutdown({});
    await vmm.exited;
  });
});

it("qemu leaves no process and no socket when it cannot start", async () => {
  const spec = { ...(await makeSpec()), base: join(makings.dir, "no-such-base.sqfs") };
  const before = await readdir(spec.dir);
  await expect(openQemuDriver({ kernel: makings.kernel, cacheDir: makings.dir }).start(spec)).rejects.toMatchObject({
    fault: "unavailable",
    reason: "VMM_START_FAILED",
    message: expect.stringContaining("no-such-base.sqfs") as string,
  });
  expect(processesIn(spec.dir)).toEqual([]);
  expect(await readdir(spec.dir)).toEqual(before);
});
