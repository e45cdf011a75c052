import { availableParallelism } from "node:os";
import { expect, it } from "vitest";
import { hostCapacity, readNodeConfig } from "./config.ts";

const gib = 2 ** 30;
const capacityWith = (env: NodeJS.ProcessEnv): ReturnType<typeof hostCapacity> =>
  hostCapacity(readNodeConfig({ PITWALL_STATE_DIR: "/state", ...env }), 100 * gib);

it("gives each resource away as often as the configuration says", () => {
  const once = capacityWith({ PITWALL_OVERCOMMIT_CPU: "1" });
  expect(once).toMatchObject({ cpuMillis: BigInt(availableParallelism() * 1000), diskBytes: BigInt(100 * gib) });
  const more = capacityWith({ PITWALL_OVERCOMMIT_CPU: "1.5", PITWALL_OVERCOMMIT_MEM: "2", PITWALL_OVERCOMMIT_DISK: "0.5" });
  expect(more).toEqual({ cpuMillis: (once.cpuMillis * 3n) / 2n, memBytes: once.memBytes * 2n, diskBytes: BigInt(50 * gib) });
});

it("shares CPUs by four, and nothing else, unless told otherwise", () => {
  const plain = capacityWith({});
  expect(plain).toEqual(capacityWith({ PITWALL_OVERCOMMIT_CPU: "4", PITWALL_OVERCOMMIT_MEM: "1", PITWALL_OVERCOMMIT_DISK: "1" }));
});

it("multiplies nothing that was said outright", () => {
  const said = { PITWALL_CAPACITY_CPU_MILLIS: "1500", PITWALL_CAPACITY_MEM: "3Gi", PITWALL_CAPACITY_DISK: "5Gi" };
  expect(capacityWith({ ...said, PITWALL_OVERCOMMIT_CPU: "8", PITWALL_OVERCOMMIT_MEM: "2", PITWALL_OVERCOMMIT_DISK: "2" })).toEqual({
    cpuMillis: 1500n,
    memBytes: BigInt(3 * gib),
    diskBytes: BigInt(5 * gib),
  });
});

it.each(["0", "-1", "101", "much"])("names the field of an overcommit of %j", (text) => {
  expect(() => capacityWith({ PITWALL_OVERCOMMIT_MEM: text })).toThrow(/PITWALL_OVERCOMMIT_MEM/);
});
