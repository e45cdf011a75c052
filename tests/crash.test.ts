// What kill -9 of each part does to a running VM: nothing that its user would notice for longer than the restart takes.
import { Phase, type Vm } from "@pitwall/sdk";
import { afterAll, beforeAll, expect, it } from "vitest";
import { run, type Ended } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const backWithinMs = 10_000;

let pitwall: TestStack;
let vm: Vm;
let bootId: string;
let qemu: string;

const ssh = (...command: string[]): Promise<Ended> => run([...pitwall.ssh.commandFor("steady"), ...command], { timeoutMs: 15_000 });
const qemuOf = async ({ id }: Vm): Promise<string> => (await run(["pgrep", "-f", `qemu-system.*${id}`])).stdout;

beforeAll(async () => {
  pitwall = await startTestStack();
  const { vms } = pitwall.stack.client();
  await vms.create({ name: "steady", spec: { image: pitwall.image } });
  vm = await vms.wait("steady");
  bootId = (await ssh("cat /proc/sys/kernel/random/boot_id")).stdout;
  qemu = await qemuOf(vm);
  expect(bootId).toMatch(/^[0-9a-f-]{36}\n$/);
  expect(qemu).toMatch(/^\d+\n$/);
});

afterAll(() => pitwall?.[Symbol.asyncDispose]());

it.each(["gateway", "controller", "node"] as const)(
  "the VM runs on when the %s is killed, and its SSH is back within 10 s of the restart",
  async (name) => {
    const { services } = pitwall.stack;
    const before = services[name].pid();
    expect(before).toBeDefined();
    process.kill(before ?? 0, "SIGKILL");
    await expect.poll(() => services[name].pid(), { timeout: 20_000, interval: 20 }).not.toBe(before);
    await expect.poll(() => services[name].pid(), { timeout: 20_000, interval: 20 }).toBeDefined();
    const restarted = performance.now();
    await expect
      .poll(async () => (await ssh("cat /proc/sys/kernel/random/boot_id")).stdout, { timeout: backWithinMs, interval: 100 })
      .toBe(bootId);
    expect(performance.now() - restarted).toBeLessThan(backWithinMs);
    expect(await qemuOf(vm)).toBe(qemu);
  },
);

it("a node killed in the middle of a start finishes it, with one VMM", async () => {
  const { services } = pitwall.stack;
  const { vms } = pitwall.stack.client();
  const made = await vms.create({ name: "early", spec: { image: pitwall.image } });
  await vms.waitUntil("early", ({ phase }) => phase >= Phase.PHASE_PREPARING);
  process.kill(services.node.pid() ?? 0, "SIGKILL");
  const ended = await vms.wait("early");
  expect(ended.phase).toBe(Phase.PHASE_RUNNING);
  expect(await qemuOf(made)).toMatch(/^\d+\n$/);
});

it("a VM whose QEMU is killed has FAILED, says so, and starts again with its disk", async () => {
  const { vms } = pitwall.stack.client();
  expect((await ssh("echo kept > /root/note; sync")).code).toBe(0);
  process.kill(Number(await qemuOf(vm)), "SIGKILL");
  const failed = await vms.waitUntil("steady", ({ phase }) => phase === Phase.PHASE_FAILED);
  expect(failed).toMatchObject({ reason: "VMM_EXITED", message: expect.stringContaining("the VM's process ended") as string });
  await vms.start("steady");
  expect((await vms.wait("steady")).phase).toBe(Phase.PHASE_RUNNING);
  expect((await ssh("cat /root/note")).stdout).toBe("kept\n");
});
