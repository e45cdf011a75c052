import { readFile } from "node:fs/promises";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Plan } from "./plan.ts";
import { agentSteps, jumpMs, parseScript, plainScript } from "./script.ts";

test("an empty script is the plain one", () => {
  expect(parseScript("")).toEqual(plainScript);
  expect(parseScript("{}")).toEqual(plainScript);
});

test.each([
  ["boot: soon", 'boot: expected a duration or a range, such as 20ms or 20ms..2s, got "soon"'],
  ["boot: 2s..1s", 'got "2s..1s"'],
  ["speed: 3", 'Unrecognized key: "speed"'],
  ["faults: [{fault: explode}]", "faults.0.fault: Invalid"],
  ["faults: [{fault: slow-boot}]", "faults.0.for: Invalid input: expected string"],
  ["faults: [{fault: slow-boot, for: 1s, chance: 2}]", "faults.0.chance: Too big"],
  ["faults: [{fault: slow-boot, for: 1s, vms: 2}]", 'faults.0: Unrecognized key: "vms"'],
  ["faults: [{fault: node-loss}]", "faults.0: node-loss needs either at (a time) or vm"],
  ["faults: [{fault: clock-jump, at: 1s, by: -soon}]", 'faults.0.by: expected a sign and a duration, such as -10m, got "-soon"'],
  ["faults: [{fault: agent-crash, step: create.vmm.spwaned}]", "faults.0.step: must be one of create.node.received, "],
  ["faults: [{fault: agent-crash, step: jail.made}]", "faults.0.step: must be one of"],
  ["faults: [", "it is neither YAML nor JSON"],
  ["- 1", "it: Invalid input: expected object"],
])("%s is refused by its place", (text, why) => {
  expect(() => parseScript(text)).toThrow(`the simulation's script: `);
  expect(() => parseScript(text)).toThrow(why);
});

test("the steps that a script may name are those of the docs", async () => {
  const docs = await readFile(new URL("../../../../docs/simulate.md", import.meta.url), "utf8");
  const [, list = ""] = /^Steps are the names in the trace: ([^]*?)\.$/m.exec(docs) ?? [];
  expect(list.split(/,\s/)).toEqual(agentSteps.map((step) => `\`${step}\``));
});

test("JSON is YAML, and a jump has a sign", () => {
  const { faults } = parseScript('{"faults": [{"fault": "clock-jump", "at": "1s", "by": "-10m"}]}');
  expect(faults.map((fault) => fault.fault === "clock-jump" && jumpMs(fault))).toEqual([-600_000]);
});

const plan = (text: string, seed = "1", node = "sim-1"): Plan => new Plan({ script: parseScript(text), seed, node });
const ids = Array.from({ length: 40 }, (_, index) => `vm-${index}`);

test("a fault strikes the nodes and VMs that it names", () => {
  const text = "faults: [{fault: disk-full, nodes: sim-*, vm: 2}, {fault: failed-boot, every: 3}]";
  const one = plan(text);
  const struck = (kind: "disk-full" | "failed-boot", of: Plan): number[] =>
    ids.flatMap((id, index) => (of.find(kind, id) ? [index + 1] : []));
  expect(struck("disk-full", one)).toEqual([2]);
  expect(struck("failed-boot", one).slice(0, 3)).toEqual([3, 6, 9]);
  expect(struck("disk-full", plan(text, "1", "other"))).toEqual([]);
});

test("what a seed draws does not depend on the order of the questions", () => {
  const text = "boot: 1ms..1h\nfaults: [{fault: failed-boot, chance: 0.5}]";
  fc.assert(
    fc.property(fc.shuffledSubarray(ids, { minLength: ids.length }), fc.string(), (order, seed) => {
      const [straight, shuffled] = [plan(text, seed), plan(text, seed)];
      for (const id of ids) void [straight.ordinal(id), shuffled.ordinal(id)];
      const asked = new Map(order.map((id) => [id, [shuffled.bootMs(id), shuffled.find("failed-boot", id) !== undefined]]));
      expect(ids.map((id) => asked.get(id))).toEqual(
        ids.map((id) => [straight.bootMs(id), straight.find("failed-boot", id) !== undefined]),
      );
    }),
    { numRuns: 30 },
  );
});

test("a fault that is to happen twice happens twice", () => {
  const once = plan("faults: [{fault: lost-report, phase: RUNNING, times: 2}]");
  const taken = ids.filter((id) => once.take("lost-report", id, ({ phase }) => phase === "RUNNING"));
  expect(taken).toEqual(ids.slice(0, 2));
});
