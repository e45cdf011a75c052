// A powerunit that dies at each step of its boot ends the VM, and one that fails there says so: nothing hangs.
import { provideBreakable, provision } from "@pitwall/quickstart";
import { failpointsFrom, silentLog } from "@pitwall/runtime";
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest";
import { openQemuDriver } from "../src/qemu/driver.ts";
import { openVmMakings, type VmMakings } from "./support/vm-makings.ts";

let makings: VmMakings;
beforeAll(async () => {
  const { cacheDir } = await provision(() => undefined);
  makings = await openVmMakings(await provideBreakable(cacheDir, () => undefined));
});
afterAll(() => makings?.[Symbol.asyncDispose]());

it.each([
  "guest.hostkey=exit",
  "guest.mount=exit",
  "guest.net=exit",
  "guest.reap=exit",
  "guest.ssh.listen=exit",
  "guest.report=exit",
  "guest.mount=throw",
  "guest.report=throw",
])("%s: the VM ends", async (armed) => {
  const env = { PITWALL_FAILPOINTS: armed, PITWALL_ALLOW_FAILPOINTS: "1" };
  const driver = openQemuDriver({ kernel: makings.kernel, cacheDir: makings.dir, failpoints: failpointsFrom(env, silentLog) });
  const vmm = await driver.start(await makings.makeSpec(["/x"]));
  onTestFinished(() => vmm.kill());
  const { tail } = await vmm.exited;
  // The last words of a kernel that panics for want of an init.
  expect(tail).toContain(armed.endsWith("throw") ? `the failpoint ${armed.replace("=throw", "")} threw` : "Kernel Offset");
});
