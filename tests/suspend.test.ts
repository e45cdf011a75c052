// VMs that are paused, suspended to the disk and woken, as their owners see it: real guests, real memory.
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Desired, Phase, type Vm } from "@pitwall/sdk";
import { afterAll, beforeAll, expect, it } from "vitest";
import { run, type Ended } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const bin = join(import.meta.dirname, "..", "node_modules", ".bin", "pitwall");
const name = "sleeper";

let pitwall: TestStack;
let env: Record<string, string>;
let vm: Vm;
let before: string;

const ssh = (command: string, timeoutMs = 30_000): Promise<Ended> => run([...pitwall.ssh.commandFor(name), command], { timeoutMs });
const cli = (...args: string[]): Promise<Ended> => run([bin, ...args], { env, timeoutMs: 120_000 });
const vmms = async (): Promise<string> => (await run(["pgrep", "-f", `qemu-system.*${vm.id}`])).stdout;
/** Process and name of each child of powerunit that is no shell: the image's own program is among them. */
const children =
  'for at in /proc/[0-9]*/stat; do read -r pid name state parent rest < $at; [ "$parent" = 1 ] && [ "$name" != "(sh)" ] && echo "$pid $name"; done';
/** What only the memory of one boot holds. */
const inMemory = async (): Promise<string> => (await ssh(`cat /proc/sys/kernel/random/boot_id /dev/shm/note; ${children}`)).stdout;

beforeAll(async () => {
  pitwall = await startTestStack();
  env = { PITWALL_ENDPOINT: pitwall.stack.endpoint, PITWALL_TOKEN: await pitwall.stack.token() };
  const { vms } = pitwall.stack.client();
  await vms.create({ name, spec: { image: pitwall.image } });
  vm = await vms.wait(name);
  await ssh("echo only in memory > /dev/shm/note");
  before = await inMemory();
  expect(before).toMatch(/^[0-9a-f-]{36}\nonly in memory\n(\d+ \(.+\)\n)+$/);
});

afterAll(() => pitwall?.[Symbol.asyncDispose]());

it("a paused VM stands still, and goes on where it was", async () => {
  const qemu = await vmms();
  const paused = await cli("pause", name, "-o", "json");
  expect([paused.code, paused.stderr]).toEqual([0, expect.stringContaining("paused") as string]);
  expect((await ssh("true", 3_000)).code).not.toBe(0);
  expect((await cli("resume", name)).code).toBe(0);
  expect([await inMemory(), await vmms()]).toEqual([before, qemu]);
});

it("a suspended VM whose size is changed goes on with the one it has", async () => {
  const { vms } = pitwall.stack.client();
  const size = (await vms.get(name)).spec?.memBytes ?? 0n;
  await vms.update(name, { memBytes: size * 2n });
  expect((await cli("suspend", name)).code).toBe(0);
  expect((await cli("resume", name)).code).toBe(0);
  expect(await inMemory()).toBe(before);
  await vms.update(name, { memBytes: size });
});

it("a suspended VM has no process and takes no memory of its node, and wakes with the same programs and the right time", async () => {
  const { vms } = pitwall.stack.client();
  const suspended = await cli("suspend", name);
  expect([suspended.code, suspended.stdout]).toEqual([0, expect.stringContaining("suspended") as string]);
  expect(await vmms()).toBe("");
  expect(await pitwall.query("select mem_bytes::int as mem, vm_count from node_allocation")).toEqual([{ mem: 0, vm_count: 1 }]);
  await sleep(3_000); // in which its clock does not run
  expect((await cli("resume", name)).code).toBe(0);
  expect(await inMemory()).toBe(before);
  const guestMs = Number((await ssh("date +%s%3N")).stdout);
  expect(Math.abs(Date.now() - guestMs)).toBeLessThan(2_000);
  expect((await vms.get(name)).serviceExit).toBeUndefined();
});

it("sleeps on while its node's agent is killed, and wakes after that", async () => {
  const { services, client } = pitwall.stack;
  await client().vms.suspend(name);
  await client().vms.waitUntil(name, ({ phase }) => phase === Phase.PHASE_SUSPENDED);
  const pid = services.node.pid();
  process.kill(pid ?? 0, "SIGKILL");
  await expect.poll(() => services.node.pid(), { timeout: 20_000, interval: 20 }).not.toBe(pid);
  await client().vms.start(name);
  expect((await client().vms.wait(name)).phase).toBe(Phase.PHASE_RUNNING);
  expect(await inMemory()).toBe(before);
});

it("wakes for whoever comes to it, and the audit log says for whom", async () => {
  const { vms } = pitwall.stack.client();
  await vms.suspend(name);
  await vms.waitUntil(name, ({ phase }) => phase === Phase.PHASE_SUSPENDED);
  expect(await inMemory()).toBe(before);
  const { phase, desired } = await vms.get(name);
  expect([phase, desired]).toEqual([Phase.PHASE_RUNNING, Desired.DESIRED_RUNNING]);
  const woken = await pitwall.query("select object, detail->>'for' as visitor from audit_entry where action = 'VmWoken'");
  expect(woken).toEqual([{ object: `vm/${vm.id}`, visitor: expect.stringContaining("dev") as string }]);
});

it("wakes for `pitwall ssh`, too, which says so", async () => {
  const { vms } = pitwall.stack.client();
  await vms.suspend(name);
  await vms.waitUntil(name, ({ phase }) => phase === Phase.PHASE_SUSPENDED);
  const awake = await cli("ssh", name, "--", "echo awake");
  expect(awake).toMatchObject({ code: 0, stdout: "awake\n", stderr: expect.stringContaining(`${name} is suspended: it wakes`) as string });
  expect(await inMemory()).toBe(before);
});

it("what it had in memory is gone once it is stopped, and its disk is not", async () => {
  const { vms } = pitwall.stack.client();
  await ssh("echo on the disk > /root/note; sync");
  expect((await cli("suspend", name)).code).toBe(0);
  expect((await cli("stop", name)).code).toBe(0);
  expect(await cli("suspend", name)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`the VM ${name} is stopped: that does not allow suspend (start it first)`) as string,
  });
  await vms.start(name);
  expect((await vms.wait(name)).phase).toBe(Phase.PHASE_RUNNING);
  const after = (await ssh("cat /proc/sys/kernel/random/boot_id /root/note; ls /dev/shm")).stdout;
  expect(after).toMatch(/^[0-9a-f-]{36}\non the disk\n$/);
  expect(after.slice(0, 36)).not.toBe(before.slice(0, 36));
});

it("a plan says what it would do", async () => {
  const { vms } = pitwall.stack.client();
  const { plan } = await vms.plan.suspend(name);
  expect(plan.losses).toEqual([]);
  expect((await vms.get(name)).phase).toBe(Phase.PHASE_RUNNING);
});
