import { expect, test } from "vitest";
import { namesOf, parseSubnet } from "./address-plan.ts";
import { denyAll } from "./egress.ts";
import { closedTo, joinScript, lackingChains, lackingRules, leaveScript, ruleCounts, wholeScript, type RuleSet } from "./rules.ts";

const subnet = parseSubnet("172.30.0.0/16");
const rules: RuleSet = { subnet, resolvers: ["10.0.0.2", "2001:db8::53"], allowed: ["10.9.0.0/16"], denied: ["203.0.113.0/24"] };
const port = { vmId: "7d44bd8c-3f6f-4a35-9b8b-17e4e6c4c0de", epoch: 1n, address: "172.30.0.2" };
const ruled = { ...port, egress: denyAll };

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
  expect(added).toHaveLength(6);
  const ofWhatItWasDenied = (element: string): boolean => element.startsWith("inet pitwall refused");
  const deleted = elements(leaveScript(subnet, port), "delete").filter((element) => !ofWhatItWasDenied(element));
  expect(deleted.toSorted()).toEqual(added.toSorted());
});

test("a VM with rules of its own has them before it has its addresses, and loses its addresses before them", () => {
  const lines = joinScript(subnet, ruled).split("\n");
  const first = (pattern: RegExp, of: readonly string[]): number => of.findIndex((line) => pattern.test(line));
  expect(first(/^add rule inet pitwall out_\S+ goto refuse$/, lines)).toBeLessThan(first(/^add element bridge/, lines));
  expect(lines.filter((line) => line.includes("free4"))).toEqual([
    "add element inet pitwall free4 { 172.30.0.2 }",
    "delete element inet pitwall free4 { 172.30.0.2 }",
  ]);
  const leaving = leaveScript(subnet, ruled).split("\n");
  expect(first(/^delete element bridge/, leaving)).toBeLessThan(first(/^delete chain/, leaving));
  expect(leaving.filter((line) => line.startsWith("delete chain"))).toHaveLength(2);
});

test("a chain that is gone, or was flushed, is found out, also one of a VM's own", () => {
  const wanted = ruleCounts(wholeScript(rules, [ruled]));
  expect(lackingChains(wanted, wanted)).toEqual([]);
  expect(lackingChains(wanted, new Map())).toEqual([...wanted.keys()]);
  for (const chain of ["bridge sent", "bridge at_port", "inet vm_out", "inet translate", `inet out_${namesOf(subnet, ruled).tap}`]) {
    expect(wanted.get(chain)).toBeGreaterThan(0);
    expect(lackingChains(wanted, new Map([...wanted, [chain, 0]]))).toEqual([chain]);
  }
  expect(lackingRules(wanted)).toEqual([]);
  expect(lackingRules(new Map())).toContain("bridge at_port");
});

test("what a VM was denied is kept in a table that is made anew, and goes with the VM, nobody else's", () => {
  const one = { set: "refused4", from: port.address, to: "10.0.0.1", protocol: 17, port: 53, packets: 3, leftS: 40 };
  const other = { ...one, set: "refused_else4", from: "172.30.0.9", protocol: 1, port: 0 };
  const script = wholeScript(rules, [port], [one, other, { ...one, port: 54, leftS: 0 }]);
  expect(script.split("\n").filter((line) => line.startsWith("add element inet pitwall refused"))).toEqual([
    "add element inet pitwall refused4 { 172.30.0.2 . 10.0.0.1 . 17 . 53 counter packets 3 bytes 0 timeout 3600s expires 40s }",
    "add element inet pitwall refused_else4 { 172.30.0.9 . 10.0.0.1 . 1 counter packets 3 bytes 0 timeout 3600s expires 40s }",
  ]);
  const left = leaveScript(subnet, port, false, [one, other]);
  expect(left).toContain("delete element inet pitwall refused4 { 172.30.0.2 . 10.0.0.1 . 17 . 53 }");
  expect(left).not.toContain("172.30.0.9");
});

test.each([
  ["10.1.2.3", true],
  ["10.9.1.1", false],
  ["203.0.113.9", true],
  ["10.0.0.2", false],
  ["8.8.8.8", false],
  ["fe80::1", true],
  ["2001:db8::53", false],
  ["2a00::1", false],
])("%s is closed to all VMs of the node: %s", (address, expected) => {
  expect(closedTo(rules)(address)).toBe(expected);
});
