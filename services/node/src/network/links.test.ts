import fc from "fast-check";
import { expect, test } from "vitest";
import { parseSubnet } from "./address-plan.ts";
import { fromTapAlias, noTapLines, tapAlias, tapLines } from "./links.ts";

const port = fc.record({ vmId: fc.uuid(), epoch: fc.bigInt(0n, 2n ** 64n - 1n), address: fc.ipV4() });

test("what is written on a TAP is read again, and nothing else is", () => {
  fc.assert(fc.property(port, (one) => void expect(fromTapAlias(tapAlias(one))).toEqual(one)));
  fc.assert(fc.property(fc.string(), (text) => void expect(fromTapAlias(text)).toBeUndefined()));
});

test("a TAP is up last, isolated before", () => {
  const { ip } = tapLines(parseSubnet("172.30.0.0/16"), { vmId: crypto.randomUUID(), epoch: 1n, address: "172.30.0.2" }, 1500);
  expect(ip.at(-1)).toMatch(/^link set dev pw[0-9a-f]{12} up$/);
  expect(ip.findIndex((line) => line.includes("isolated on"))).toBeGreaterThan(0);
});

test("each neighbour that a VM is given is taken from it", () => {
  fc.assert(
    fc.property(port, (one) => {
      const subnet = parseSubnet("172.30.0.0/16");
      const neighbours = (lines: readonly string[]): string[] => lines.flatMap((line) => /^neigh \w+ (\S+)/.exec(line)?.[1] ?? []);
      expect(neighbours(noTapLines(subnet, one))).toEqual(neighbours(tapLines(subnet, one, 1500).ip));
    }),
  );
});
