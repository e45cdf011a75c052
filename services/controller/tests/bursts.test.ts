// Many VMs that are asked for at once where no node will do: each is refused by itself, and nobody waits for what others hold.
import { randomUUID } from "node:crypto";
import { ClientError, Status } from "nice-grpc";
import { afterAll, beforeAll, expect, test } from "vitest";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode } from "./support/node.ts";

/** Several times what the controller has connections to its database. */
const asked = 40;

let pitwall: TestControllers;
let calls: Calls;

beforeAll(async () => {
  pitwall = await startControllers(1, { PITWALL_CHANGES_PER_SECOND: "0" });
  calls = await pitwall.as(admin);
});

afterAll(() => pitwall?.[Symbol.asyncDispose]());

/** How many of the calls ended in which way. */
async function burst(name: string): Promise<ReadonlyMap<string, number>> {
  const spec = { image: pitwall.image, cpuMillis: 100, memBytes: 128n << 20n, diskBytes: 64n << 20n };
  const ends = await Promise.all(
    Array.from({ length: asked }, async (_, n) => {
      try {
        await calls.vms.createVm({ requestId: randomUUID(), name: `${name}-${n}`, spec });
        return "made";
      } catch (error) {
        if (!(error instanceof ClientError)) throw error;
        return `${Status[error.code]} ${error.details.split(/[:;]/)[0]}`;
      }
    }),
  );
  return new Map([...Map.groupBy(ends, (end) => end)].map(([end, all]) => [end, all.length]));
}

test("no node is there", async () => {
  expect(await burst("nowhere")).toEqual(new Map([["UNAVAILABLE no node is ready", asked]]));
});

test("the only node is full", async () => {
  await using _node = await startNode(pitwall, { name: "small", capacity: { cpuMillis: 1_000, memMib: 1_000_000, diskMib: 1_000_000 } });
  await pitwall.query(
    "update project set quota_vms = 10000, quota_cpu_millis = 1e9::bigint, quota_mem_bytes = 1e15::bigint, quota_disk_bytes = 1e17::bigint, quota_addresses = 10000",
  );
  expect(await burst("full")).toEqual(
    new Map([
      ["made", 10],
      ["RESOURCE_EXHAUSTED no node has room for the VM", asked - 10],
    ]),
  );
});
