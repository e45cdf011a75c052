// VMs that are paused and suspended, as controllers count them and hear of them.
import { Desired, Phase, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode, type TestNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";

/** Of nodes that pause and suspend. */
const level = 5;
const memMib = 1_024;

let pitwall: TestControllers;
let node: TestNode;
let ada: Calls;

beforeAll(async () => {
  pitwall = await startControllers(1);
  node = await startNode(pitwall, { name: "one", level, capacity: { cpuMillis: 4_000, memMib, diskMib: 100_000 } });
  ada = await pitwall.as("ada");
});
afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

const get = async (vm: string): Promise<Vm | undefined> => (await ada.vms.getVm({ vm })).vm;
const reaches = async (vm: string, phase: Phase): Promise<void> =>
  expect.poll(async () => (await get(vm))?.phase, { timeout: 10_000, interval: 20 }).toBe(phase);

async function running(name: string): Promise<string> {
  const spec = { image: pitwall.image, memBytes: BigInt(memMib) * 1_048_576n };
  const id = (await ada.vms.createVm({ name, spec })).vm?.id ?? "";
  await reaches(id, Phase.PHASE_RUNNING);
  return id;
}

it("a suspended VM leaves its CPU and memory to others, and goes on once there is room for it again", async () => {
  const first = await running("first");
  await ada.vms.suspendVm({ vm: first });
  await reaches(first, Phase.PHASE_SUSPENDED);
  expect(await pitwall.query("select cpu_millis::int as cpu, mem_bytes::int as mem, vm_count from node_allocation")).toEqual([
    { cpu: 0, mem: 0, vm_count: 1 },
  ]);
  const { plan } = await ada.vms.stopVm({ vm: first, validateOnly: true });
  expect(plan?.losses).toEqual(["what the VM first has in memory"]);
  const second = await running("second");
  expect(await refusalOf(ada.vms.startVm({ vm: first }))).toMatch(/^RESOURCE_EXHAUSTED/);
  expect((await get(first))?.desired).toBe(Desired.DESIRED_SUSPENDED);
  await ada.vms.deleteVm({ vm: second });
  await expect.poll(() => pitwall.query("select from vm where id = $1", [second]), { timeout: 10_000 }).toEqual([]);
  await ada.vms.startVm({ vm: first });
  await reaches(first, Phase.PHASE_RUNNING);
  expect(node.told.filter(({ vmId }) => vmId === first).map(({ restartGeneration }) => restartGeneration)).not.toContain(3n);
  await ada.vms.deleteVm({ vm: first });
  await expect.poll(() => pitwall.query("select from vm"), { timeout: 10_000 }).toEqual([]);
});

it("a VM that could not be suspended should run, and says why", async () => {
  const vm = await running("stubborn");
  const { generation = 0n } = (await ada.vms.suspendVm({ vm })).vm ?? {};
  await node.isTold((assignment) => assignment.vmId === vm && assignment.generation === generation); // and has said that it did
  node.report(vm, { generation, phase: Phase.PHASE_RUNNING, reason: "SUSPEND_FAILED", message: "the disk is full" });
  await expect.poll(async () => (await get(vm))?.reason, { timeout: 10_000, interval: 20 }).toBe("SUSPEND_FAILED");
  expect(await get(vm)).toMatchObject({ desired: Desired.DESIRED_RUNNING, message: "the disk is full" });
  await ada.vms.suspendVm({ vm });
  await reaches(vm, Phase.PHASE_SUSPENDED);
  await ada.vms.deleteVm({ vm });
  await expect.poll(() => pitwall.query("select from vm"), { timeout: 10_000 }).toEqual([]);
});

it("a VM on a node of an older version is not asked", async () => {
  await pitwall.query("update node set cordoned = true");
  await using old = await startNode(pitwall, { name: "old" });
  const vm = await running("aged");
  expect((await get(vm))?.nodeId).toBe(old.id);
  expect(await refusalOf(ada.vms.pauseVm({ vm }))).toContain("the agent of the VM aged's node is too old to pause or suspend VMs");
  expect(await get(vm)).toMatchObject({ desired: Desired.DESIRED_RUNNING, generation: 1n });
});
