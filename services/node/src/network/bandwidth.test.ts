import { expect, test } from "vitest";
import { namesOf, parseSubnet } from "./address-plan.ts";
import { joinScript, lackingChains, leaveScript, ruleCounts, wholeScript } from "./rules.ts";

const subnet = parseSubnet("172.30.0.0/16");
const rules = { subnet, resolvers: [], allowed: [], denied: [] };
const port = { vmId: "7d44bd8c-3f6f-4a35-9b8b-17e4e6c4c0de", epoch: 1n, address: "172.30.0.2" };
const { tap } = namesOf(subnet, port);
const ruleOf = (script: string, chain: string): string | undefined =>
  script.split("\n").find((line) => line.startsWith(`add rule inet pitwall ${chain} `));

test.each([
  [64_000n, "limit rate over 8000 bytes/second burst 262144 bytes counter drop"],
  [1_000_000_000n, "limit rate over 125000000 bytes/second burst 12500000 bytes counter drop"],
  [1_000_000_000_000n, "limit rate over 125000000000 bytes/second burst 67108864 bytes counter drop"],
])("a VM that may send %s bits a second", (bandwidthOutBps, rule) => {
  const script = joinScript(subnet, { ...port, bandwidthOutBps });
  expect(ruleOf(script, `pace_out_${tap}`)).toBe(`add rule inet pitwall pace_out_${tap} ${rule}`);
  expect(ruleOf(script, `pace_in_${tap}`)).toBeUndefined();
});

test("both ways have a limit of their own, in force before the VM's addresses are good", () => {
  const lines = joinScript(subnet, { ...port, bandwidthInBps: 8_000_000n, bandwidthOutBps: 80_000n }).split("\n");
  const rates = lines.flatMap((line) => /pace_(in|out)_\S+ limit rate over (\d+)/.exec(line)?.slice(1, 3).join(" ") ?? []);
  expect(rates).toEqual(["out 10000", "in 1000000"]);
  const last = lines.findLastIndex((line) => line.includes("paced_"));
  expect(last).toBeLessThan(lines.findIndex((line) => line.startsWith("add element bridge")));
});

test("a limit that is taken away, and a VM that leaves, leave no chain", () => {
  const limited = { ...port, bandwidthInBps: 80_000n };
  const chains = [`inet pitwall pace_out_${tap}`, `inet pitwall pace_in_${tap}`];
  const deleted = (script: string): string[] => [...script.matchAll(/^delete chain (.*pace.*)$/gm)].map(([, chain]) => chain ?? "");
  expect(deleted(joinScript(subnet, port, true))).toEqual(chains);
  expect(deleted(joinScript(subnet, port))).toEqual([]);
  expect(deleted(leaveScript(subnet, limited))).toEqual(chains);
  expect(deleted(leaveScript(subnet, port))).toEqual([]);
});

test("a limit that somebody has flushed is found out", () => {
  const wanted = ruleCounts(wholeScript(rules, [{ ...port, bandwidthInBps: 80_000n }]));
  const chain = `inet pace_in_${tap}`;
  expect(lackingChains(wanted, new Map([...wanted, [chain, 0]]))).toEqual([chain]);
});
