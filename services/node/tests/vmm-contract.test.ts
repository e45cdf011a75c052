// The contract of every driver (src/machine/vmm.ts), held by each that ships.
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { GuestState } from "@pitwall/proto/pitwall/v1/guest.ts";
import { fromDuration, isAlive, noFailpoints, processesIn, systemClock, type Failpoints } from "@pitwall/runtime";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { wiring as firecrackerWiring } from "../src/firecracker/arguments.ts";
import { openGuest } from "../src/guest/client.ts";
import type { MachineGuest } from "../src/machine/host.ts";
import type { Vmm, VmmDriver, VmmProcess, VmmSpec } from "../src/machine/vmm.ts";
import { openQemuDriver } from "../src/qemu/driver.ts";
import { openSimDriver } from "../src/sim/driver.ts";
import { SimHost } from "../src/sim/host.ts";
import { openMemoryDriver } from "../src/sim/memory-driver.ts";
import { Plan } from "../src/sim/plan.ts";
import { parseScript } from "../src/sim/script.ts";
import { noTrace } from "../src/sim/trace.ts";
import { installed, openDriver, sayMissing } from "./support/firecracker.ts";
import { openVmMakings, type VmMakings } from "./support/vm-makings.ts";

const mib = 2 ** 20;
/** Of a suspension that nobody calls off. */
const uncalled = new AbortController().signal;
sayMissing("the contract of the Firecracker driver");

/** Firecracker may be on emulated hardware, and its guests on that. */
const readyLimitMs = installed ? 120_000 : 30_000;

let makings: VmMakings;
let jailed: VmMakings | undefined;

beforeAll(async () => {
  makings = await openVmMakings();
  if (installed) jailed = await openVmMakings(undefined, firecrackerWiring);
}, 300_000);

afterAll(async () => {
  await makings?.[Symbol.asyncDispose]();
  await jailed?.[Symbol.asyncDispose]();
});

/** A driver, and its VMMs as others than their agent meet them. */
interface Subject {
  readonly driver: VmmDriver;
  readonly isAlive: (process: VmmProcess) => boolean;
  readonly terminate: (process: VmmProcess) => void;
  readonly openGuest: (vmm: Vmm, signal: AbortSignal) => Promise<Pick<MachineGuest, "control"> & AsyncDisposable>;
}

const onThisHost = { isAlive, terminate: ({ pid }: VmmProcess): void => void process.kill(pid, "SIGTERM"), openGuest };

/** Each call is one more agent of the same host. */
const subjects: Record<string, () => Subject> = {
  qemu: () => ({ driver: openQemuDriver({ kernel: makings.kernel, cacheDir: makings.dir }), ...onThisHost }),
  ...(installed && {
    // It is the init of its process namespace, and such a one is not ended by a signal that it has no handler for.
    firecracker: () => ({
      driver: openDriver(makings.dir, makings.kernel),
      ...onThisHost,
      terminate: ({ pid }) => void process.kill(pid, "SIGKILL"),
    }),
  }),
  sim: () => ({ driver: openSimDriver(), ...onThisHost }),
  "sim without processes": () => {
    const driver = openMemoryDriver({ host: virtualHost, clock: systemClock, plan, failpoints: noFailpoints });
    return {
      driver,
      isAlive: (identity) => virtualHost.process(identity) !== undefined,
      terminate: (identity) => virtualHost.process(identity)?.end({ code: null, signal: "SIGTERM" }),
      openGuest: driver.openGuest,
    };
  },
};
const withoutWire = "sim without processes";
const plan = new Plan({ script: parseScript("{ boot: 20ms, shutdown: 10ms, kill: 5ms }"), seed: "contract", node: "virtual" });
const virtualHost = new SimHost({
  clock: systemClock,
  seed: "contract",
  name: "virtual",
  trace: noTrace,
  killMs: (vmId) => plan.killMs(vmId),
});

async function started(driver: VmmDriver, spec: VmmSpec): Promise<Vmm> {
  const vmm = await driver.start(spec);
  onTestFinished(() => vmm.kill());
  return vmm;
}

/** Resolves when powerunit says that it is ready. */
async function untilReady(vmm: Vmm, open: Subject["openGuest"]): Promise<void> {
  await using guest = await open(vmm, AbortSignal.timeout(readyLimitMs));
  for await (const { state } of guest.control.watchState({})) if (state === GuestState.GUEST_STATE_READY) return;
  throw new Error("the guest's state ended before it was ready");
}

describe.each(Object.keys(subjects))("%s", { timeout: 2 * readyLimitMs }, (name) => {
  const subject = (): Subject => subjects[name]!(); // the keys are the table's own
  const open = (): VmmDriver => subject().driver;
  const ready = (vmm: Vmm): Promise<void> => untilReady(vmm, subject().openGuest);
  const makeSpec = (): Promise<VmmSpec> => (name === "firecracker" ? jailed! : makings).makeSpec(); // made where it is a subject
  /** Of powerunit, which begins anew with each boot. */
  const uptimeMs = async (vmm: Vmm): Promise<number> => {
    await using guest = await subject().openGuest(vmm, AbortSignal.timeout(10_000));
    for await (const { uptime } of guest.control.watchState({})) if (uptime) return fromDuration(uptime);
    throw new Error("the guest says nothing");
  };

  it("says what it proved by probing", async () => {
    const driver = open();
    expect(driver.name).toBe(name.split(" ")[0]);
    expect(await driver.probe()).toEqual({
      version: expect.stringMatching(/\d/) as string,
      acceleration: expect.stringMatching(/^(kvm|tcg|none)$/) as string,
    });
  });

  it("starts a guest that becomes ready, and names a live process", async () => {
    const vmm = await started(open(), await makeSpec());
    expect(subject().isAlive(vmm.process)).toBe(true);
    expect(vmm.process.driver).toBe(open().name);
    await ready(vmm);
    const { cpuMs, rssBytes } = await vmm.usage();
    expect(cpuMs).toBeGreaterThanOrEqual(0);
    expect(rssBytes).toBeGreaterThan(mib);
  });

  it("opens a channel again after one was closed, and a new one ends the one before", async ({ skip }) => {
    if (name === withoutWire) {
      const why = "a guest without a process has no wire to it: openGuest is the way in, and any number may be open";
      console.log(`skipped: ${why}`);
      return skip(why);
    }
    const vmm = await started(open(), await makeSpec());
    await ready(vmm);
    const first = await vmm.openChannel(AbortSignal.timeout(10_000));
    const ended = new Promise((resolve) => first.once("close", resolve));
    await ready(vmm);
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
    expect(subject().isAlive(vmm.process)).toBe(false);
    await expect(vmm.openChannel(AbortSignal.timeout(1_000))).rejects.toMatchObject({ fault: "unavailable" });
  });

  it("tells of an end that nobody asked it for", async () => {
    const vmm = await open().start(await makeSpec());
    subject().terminate(vmm.process);
    await vmm.exited;
    expect(subject().isAlive(vmm.process)).toBe(false);
  });

  it("pauses and resumes: a paused guest uses no CPU, a resumed one answers", async () => {
    const vmm = await started(open(), await makeSpec());
    await ready(vmm);
    await vmm.pause();
    const before = (await vmm.usage()).cpuMs;
    await expect(subject().openGuest(vmm, AbortSignal.timeout(700))).rejects.toMatchObject({ fault: "unavailable" });
    expect((await vmm.usage()).cpuMs - before).toBeLessThan(400);
    await vmm.resume();
    await ready(vmm);
  });

  /** Not of a driver that cannot, and says so. */
  const needSuspension = (skip: (why: string) => never): void => {
    if (name !== "firecracker") return;
    const why = "the Firecracker driver does not suspend VMs yet";
    console.log(`skipped: ${why}`);
    skip(why);
  };

  it("suspends to the disk and goes on from there, once: the same guest, a new VMM", async ({ skip }) => {
    needSuspension(skip);
    const spec = await makeSpec();
    const vmm = await started(open(), spec);
    await ready(vmm);
    const before = await uptimeMs(vmm);
    expect(await open().isSuspended(spec.dir)).toBe(false);
    await vmm.suspend(uncalled);
    await vmm.exited;
    expect(subject().isAlive(vmm.process)).toBe(false);
    expect(await open().isSuspended(spec.dir)).toBe(true);
    await rm(spec.initramfs, { force: true });
    const woken = await open().wake(spec);
    onTestFinished(() => woken.kill());
    expect(woken.process).not.toEqual(vmm.process);
    expect(await open().isSuspended(spec.dir)).toBe(false);
    expect(await uptimeMs(woken)).toBeGreaterThanOrEqual(before);
    await woken.kill();
    await expect(open().wake(spec)).rejects.toMatchObject({ fault: "unavailable" });
  });

  it("suspends a paused guest, and one that an earlier agent has started", async ({ skip }) => {
    needSuspension(skip);
    const spec = await makeSpec();
    const vmm = await started(open(), spec);
    await ready(vmm);
    const adopted = await open().adopt(spec, vmm.process);
    await adopted?.pause();
    await adopted?.suspend(uncalled);
    expect(subject().isAlive(vmm.process)).toBe(false);
    const woken = await open().wake(spec);
    onTestFinished(() => woken.kill());
    await ready(woken);
  });

  it("goes on with the guest where a suspension is called off", async ({ skip }) => {
    needSuspension(skip);
    const spec = await makeSpec();
    const vmm = await started(open(), spec);
    await ready(vmm);
    await expect(vmm.suspend(AbortSignal.abort(new Error("called off")))).rejects.toThrow("called off");
    await ready(vmm);
    expect(await open().isSuspended(spec.dir)).toBe(false);
  });

  it("forgets what a suspended guest had in memory", async ({ skip }) => {
    needSuspension(skip);
    const spec = await makeSpec();
    const vmm = await started(open(), spec);
    await ready(vmm);
    await vmm.suspend(uncalled);
    await open().forget(spec.dir);
    expect(await open().isSuspended(spec.dir)).toBe(false);
  });

  it("adopts a running VMM by pid and start time, and follows it to its end", async () => {
    const spec = await makeSpec();
    const vmm = await started(open(), spec);
    await ready(vmm);
    const adopted = await open().adopt(spec, vmm.process);
    expect(adopted?.process).toEqual(vmm.process);
    await ready(adopted!); // asserted just above
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
    await ready(vmm);
    await using guest = await subject().openGuest(vmm, AbortSignal.timeout(10_000));
    await guest.control.shutdown({});
    await vmm.exited;
  });
});

it("qemu leaves no process and no socket when it cannot start", async () => {
  const spec = { ...(await makings.makeSpec()), base: join(makings.dir, "no-such-base.sqfs") };
  const before = await readdir(spec.dir);
  await expect(openQemuDriver({ kernel: makings.kernel, cacheDir: makings.dir }).start(spec)).rejects.toMatchObject({
    fault: "unavailable",
    reason: "VMM_START_FAILED",
    message: expect.stringContaining("no-such-base.sqfs") as string,
  });
  expect(processesIn(spec.dir)).toEqual([]);
  expect(await readdir(spec.dir)).toEqual(before);
});

/** A QEMU whose agent was killed when its guest's memory was on the disk, and before it ended it. */
async function leftSuspended(spec: VmmSpec): Promise<Vmm> {
  const never = new Promise<void>(() => undefined);
  const at: Failpoints["at"] = async (name) => (name === "suspend.memory.kept" ? never : undefined);
  const driver = openQemuDriver({ kernel: makings.kernel, cacheDir: makings.dir, failpoints: { ...noFailpoints, at } });
  const vmm = await started(driver, spec);
  await untilReady(vmm, openGuest);
  void vmm.suspend(uncalled);
  await expect.poll(() => driver.isSuspended(spec.dir), { timeout: 30_000 }).toBe(true);
  expect(isAlive(vmm.process)).toBe(true);
  return vmm;
}

it("qemu is suspended by the next agent when one was killed amid that, and wakes", async () => {
  const spec = await makings.makeSpec();
  const driver = openQemuDriver({ kernel: makings.kernel, cacheDir: makings.dir });
  const left = await leftSuspended(spec);
  await (await driver.adopt(spec, left.process))?.suspend(uncalled);
  expect(isAlive(left.process)).toBe(false);
  const woken = await driver.wake(spec);
  onTestFinished(() => woken.kill());
  await untilReady(woken, openGuest);
});

it("qemu goes on after all when an agent was killed amid a suspension, and is suspended once more later", async () => {
  const spec = await makings.makeSpec();
  const driver = openQemuDriver({ kernel: makings.kernel, cacheDir: makings.dir });
  const left = await leftSuspended(spec);
  const adopted = await driver.adopt(spec, left.process);
  await driver.forget(spec.dir);
  await adopted?.resume();
  await untilReady(left, openGuest);
  await adopted?.suspend(uncalled);
  expect(await driver.isSuspended(spec.dir)).toBe(true);
  const woken = await driver.wake(spec);
  onTestFinished(() => woken.kill());
  await untilReady(woken, openGuest);
});
