// Who asked that a VM end is kept with how it ended, whatever its node says of it.
import { randomUUID } from "node:crypto";
import { Phase, RestartPolicy, type Exit, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { afterAll, beforeAll, expect, test } from "vitest";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode, type TestNode } from "./support/node.ts";

let pitwall: TestControllers;
let node: TestNode;
let ada: Calls;
let bob: Calls;

beforeAll(async () => {
  pitwall = await startControllers(1);
  node = await startNode(pitwall, { name: "one", level: 5, isIdle: true });
  ada = await pitwall.as("ada");
  bob = await pitwall.as("bob");
  const { project } = await ada.projects.createProject({ name: "shared", requestId: randomUUID() });
  await ada.projects.setProjectMember({ project: project?.name ?? "", subject: "bob", role: 2 });
});
afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

const soon = { timeout: 30_000 };
const running = { phase: Phase.PHASE_RUNNING };
const stopped = { phase: Phase.PHASE_STOPPED };
const exited: Exit = { code: 0, signal: 0, outOfMemory: false };
const by = (subject: string, why: string): unknown =>
  expect.objectContaining({ actor: subject, subject, why, time: expect.any(Date) as Date });

async function now(id: string): Promise<Vm> {
  const { vm } = await ada.vms.getVm({ vm: id });
  if (!vm) throw new Error(`there is no VM ${id}`);
  return vm;
}

async function make(name: string, more: object = {}): Promise<string> {
  const { vm } = await ada.vms.createVm({ name, project: "shared", spec: { image: pitwall.image, ...more } });
  await node.isTold(({ vmId }) => vmId === vm?.id);
  node.report(vm?.id ?? "", running);
  await ada.vms.waitVm({ vm: vm?.id ?? "" });
  return vm?.id ?? "";
}

/** Once the node has heard of this generation, says so of it, and returns the VM as it then is. */
async function become(
  id: string,
  { generation = 0n }: Partial<Vm> = {},
  said: Parameters<TestNode["report"]>[1] & { phase: Phase },
): Promise<Vm> {
  await node.isTold((assignment) => assignment.vmId === id && assignment.generation >= generation);
  node.report(id, { generation, ...said });
  const { vm } = await ada.vms.waitVm({ vm: id, phases: [said.phase], minGeneration: generation });
  if (!vm) throw new Error("no VM");
  return vm;
}

test("a stop is explained by whoever asked for it, and a start ends that", async () => {
  const id = await make("stopped");
  const { vm: asked } = await bob.vms.stopVm({ vm: id });
  expect(asked).toMatchObject({ asked: by("bob", "STOP"), serviceExit: undefined });
  expect(await become(id, asked, { ...stopped, serviceExit: exited })).toMatchObject({
    serviceExit: { code: 0, asked: by("bob", "STOP") },
  });
  const { vm: started } = await ada.vms.startVm({ vm: id });
  expect(started?.asked).toBeUndefined();
  const up = await become(id, started, { ...running, serviceExit: undefined });
  expect([up.asked, up.serviceExit]).toEqual([undefined, undefined]);
});

test("a process that ended by itself is nobody's, also when its VM is stopped later; whatever its node says", async () => {
  const id = await make("alone");
  const lie = { actor: "ada", subject: "ada", why: "STOP", time: new Date(), generation: 1n };
  node.report(id, { ...running, serviceExit: { ...exited, code: 3, asked: lie } });
  await expect.poll(async () => (await now(id)).serviceExit, soon).toMatchObject({ code: 3 });
  expect((await now(id)).serviceExit?.asked).toBeUndefined();
  const { vm: asked } = await ada.vms.stopVm({ vm: id });
  const rests = await become(id, asked, { ...stopped, serviceExit: { ...exited, code: 3 } });
  expect(rests.asked).toEqual(by("ada", "STOP"));
  expect(rests.serviceExit?.asked).toBeUndefined();
});

test("one that is started again after each end has another one when its VM is stopped", async () => {
  const id = await make("again", { restartPolicy: RestartPolicy.RESTART_POLICY_ALWAYS });
  node.report(id, { ...running, serviceExit: exited, restartCount: 1 });
  await expect.poll(async () => (await now(id)).restartCount, soon).toBe(1);
  const { vm: asked } = await ada.vms.stopVm({ vm: id });
  expect(await become(id, asked, { ...stopped, serviceExit: exited, restartCount: 1 })).toMatchObject({
    serviceExit: { asked: by("ada", "STOP") },
  });
});

test("an end that the node saw before it heard of the wish is not explained by it", async () => {
  const id = await make("earlier");
  await bob.vms.stopVm({ vm: id });
  node.report(id, { ...running, serviceExit: { ...exited, code: 1 } }); // of the generation before
  await expect.poll(async () => (await now(id)).serviceExit, soon).toMatchObject({ code: 1 });
  const over = await now(id);
  expect([over.asked, over.serviceExit?.asked]).toEqual([by("bob", "STOP"), undefined]);
});

test("a restart is named until the VM runs again, a suspension until it goes on, of a token its maker too", async () => {
  const id = await make("moved");
  const { token, secret } = await ada.projects.createApiToken({ project: "shared", description: "ci", role: 2 });
  const { vm: restarted } = await pitwall.withHeader(`Bearer ${secret}`).vms.restartVm({ vm: id });
  expect(restarted?.asked).toMatchObject({ actor: `token:${token?.id}`, subject: "ada", why: "RESTART" });
  expect((await become(id, restarted, running)).asked).toBeUndefined();
  const { vm: suspended } = await ada.vms.suspendVm({ vm: id });
  const held = await become(id, suspended, { phase: Phase.PHASE_SUSPENDED });
  expect(held.asked).toEqual(by("ada", "SUSPEND"));
});

test("the system's own reasons are named: the end of its time, and a drain", async () => {
  const id = await make("due");
  await pitwall.query("update vm set expire_time = now() where id = $1", [id]);
  await node.isTold(({ vmId, generation }) => vmId === id && generation === 2n);
  expect((await now(id)).asked).toEqual(by("system", "EXPIRED"));
  const other = await make("drained");
  await (await pitwall.as(admin)).nodes.drainNode({ node: "one" });
  await node.isTold(({ vmId, generation }) => vmId === other && generation === 2n);
  expect((await now(other)).asked).toEqual(by("system", "NODE_DRAIN"));
});
