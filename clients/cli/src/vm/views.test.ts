import { Health, Phase, RestartPolicy, Vm, VmSpec, type Exit } from "@pitwall/sdk";
import { expect, test } from "vitest";
import { openColours } from "../output/colours.ts";
import { vmDetails, vmTable } from "./views.ts";

const nowMs = Date.UTC(2026, 0, 1, 12);
const appearance = { colours: openColours(false), nowMs };
const web = Vm.fromPartial({
  id: "0b8f7a52-9d1e-4c3a-8f60-1d2e3f4a5b6c",
  name: "web",
  phase: Phase.PHASE_RUNNING,
  generation: 2n,
  spec: VmSpec.fromPartial({ image: "nginx", cpuMillis: 500, memBytes: 2n ** 29n }),
  nodeName: "n1",
  createTime: new Date(nowMs - 90_000),
});

test("a VM is a line", () => {
  expect(vmTable([web], appearance).table()).toBe(
    "NAME  PHASE    HEALTH  RESTARTS  CPU   MEMORY  NODE  AGE  IMAGE\nweb   running  -       0         500m  512Mi   n1    90s  nginx\n",
  );
});

test("a failure comes with its reason, and the end of the image's process is seen", () => {
  const failed = { ...web, phase: Phase.PHASE_FAILED, reason: "BOOT_TIMEOUT" };
  const serviceExit: Exit = { code: 127, signal: 0, outOfMemory: false };
  expect(vmTable([failed], appearance).table()).toContain("failed (BOOT_TIMEOUT)");
  expect(vmTable([{ ...web, serviceExit }], appearance).table()).toContain("running (service: exit code 127)");
});

test("who asked for an end is said, of the VM and of its process, and of neither that ended by itself", () => {
  const asked = { actor: "token:t1", subject: "ada", why: "STOP", time: new Date(nowMs), generation: 3n };
  const serviceExit: Exit = { code: 0, signal: 0, outOfMemory: false };
  const words = "STOP by token:t1 of ada at 2026-01-01T12:00:00.000Z";
  const text = vmDetails({ ...web, asked, serviceExit: { ...serviceExit, asked } }, appearance).table();
  expect(text).toContain(`\nAsked    ${words}\n`);
  expect(text).toContain(`ended with exit code 0: ${words}\n`);
  const own = vmDetails({ ...web, serviceExit }, appearance).table();
  expect(own).toContain("ended with exit code 0\n");
  expect(own).not.toMatch(/^Asked/m);
});

test("the JSON is the API's own, a list or the one VM", () => {
  const json = expect.objectContaining({ name: "web", phase: "PHASE_RUNNING", generation: "2" }) as unknown; // vitest types it as any
  expect(vmTable([web], appearance).json).toEqual([json]);
  expect(vmTable([web], { ...appearance, isOne: true }).json).toEqual(json);
});

test("health and restarts are seen", () => {
  const sick = { ...web, health: Health.HEALTH_UNHEALTHY, restartCount: 3 };
  expect(vmTable([sick], appearance).table()).toMatch(/^web +running +unhealthy +3 /m);
  const spec = VmSpec.fromPartial({ restartPolicy: RestartPolicy.RESTART_POLICY_ON_FAILURE });
  const text = vmDetails({ ...sick, spec }, appearance).table();
  expect(text).toMatch(/^Health +unhealthy\nRestart +on-failure\nRestarts +3$/m);
  expect(vmDetails(web, appearance).table()).toMatch(/^Restart +no\nCreated/m);
});

test("details leave out what there is not, and keep a message's lines apart", () => {
  const text = vmDetails({ ...web, message: "it ended:\n[1.0] panic\u001b[2J" }, appearance).table();
  expect(text).toMatch(/^Name +web$/m);
  expect(text).toMatch(/^Message +it ended:\n +\[1\.0\] panic$/m);
  expect(text).not.toContain("Digest");
});
