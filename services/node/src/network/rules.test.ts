import { expect, test } from "vitest";
import { parseSubnet } from "./address-plan.ts";
import { joinScript, leaveScript, missingChains, wholeScript, type RuleSet } from "./rules.ts";

const subnet = parseSubnet("172.30.0.0/16");
const rules: RuleSet = { subnet, resolvers: ["10.0.0.2", "2001:db8::53"], allowed: ["10.9.0.0/16"], denied: ["203.0.113.0/24"] };
const port = { vmId: "7d44bd8c-3f6f-4a35-9b8b-17e4e6c4c0de", epoch: 1n, address: "172.30.0.2" };

/** Lines of rules alone. */
const ruleCount = (script: string): number => script.split("\n").filter((line) => / (drop|accept|masquerade)$/.test(line)).length;

test("there are as many rules for a thousand VMs as for none", () => {
  const ports = Array.from({ length: 1000 }, (_, at) => ({ ...port, epoch: BigInt(at) }));
  expect(ruleCount(wholeScript(rules, ports))).toBe(ruleCount(wholeScript(rules, [])));
  expect(ruleCount(wholeScript(rules, []))).toBeGreaterThan(20);
});

test("only Pitwall's own tables are named", () => {
  const named = [...wholeScript(rules, [port]).matchAll(/^(?:add|delete) table (.*)$|^table (.*) \{$|element (\S+ \S+)/gm)];
  const tables = named.map(([, a, b, c]) => a ?? b ?? c);
  expect(new Set(tables)).toEqual(new Set(["bridge pitwall", "inet pitwall"]));
});

test("what is private and allowed is told from what is public and is not", () => {
  const script = wholeScript(rules, []);
  expect(script).toMatch(/set allowed4 .*10\.9\.0\.0\/16/);
  expect(script).toMatch(/set denied4 .*203\.0\.113\.0\/24/);
  expect(script).toMatch(/set resolvers6 .*2001:db8::53/);
  expect(script).not.toMatch(/set closed4 .*10\.9\.0\.0\/16/);
});

test("a VM that leaves takes with it all it came with", () => {
  const elements = (script: string, verb: string): string[] =>
    [...script.matchAll(new RegExp(`^${verb} element (.*)$`, "gm"))].map(([, rest]) => rest ?? "");
  const added = elements(joinScript(subnet, port), "add");
  expect(added).toHaveLength(4);
  expect(elements(leaveScript(subnet, port), "delete")).toEqual(added);
});

test("a table without its chains is found out", () => {
  expect(missingChains([])).toContain("bridge at_port");
  const all = [...wholeScript(rules, []).matchAll(/^table (\w+) pitwall|^ {2}chain (\w+) \{[^}]*?hook (\w+)/gm)];
  let family = "";
  const chains = all.flatMap(([, of, name, hook]) => {
    family = of ?? family;
    return name === undefined ? [] : [{ family, table: "pitwall", name, hook }];
  });
  expect(missingChains(chains)).toEqual([]);
});
