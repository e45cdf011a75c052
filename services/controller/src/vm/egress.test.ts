import { EgressRule, EgressVerdict, type Egress } from "@pitwall/proto/pitwall/v1/vm.ts";
import { expect, test } from "vitest";
import { checkEgress } from "./egress.ts";

const verdict = EgressVerdict.EGRESS_VERDICT_ALLOW;
const rule = (more: Partial<EgressRule>): EgressRule => EgressRule.fromPartial({ verdict, ...more });
const of = (...rules: EgressRule[]): Egress => ({ rules, otherwise: EgressVerdict.EGRESS_VERDICT_DENY });

test("a VM without rules has none", () => {
  expect(checkEgress(undefined)).toBeUndefined();
  expect(checkEgress(of())).toEqual(of());
});

test.each([
  ["203.0.113.7", "203.0.113.7/32"],
  ["203.0.113.0/24", "203.0.113.0/24"],
  ["2001:DB8:0::1", "2001:db8::1/128"],
  ["0.0.0.0/0", "0.0.0.0/0"],
  ["", ""],
])("the network %j is written as %j", (network, expected) => {
  expect(checkEgress(of(rule({ network })))?.rules[0]?.network).toBe(expected);
});

test.each([
  [{ verdict: EgressVerdict.EGRESS_VERDICT_UNSPECIFIED }, "spec.egress.rules[0].verdict: must be allow or deny"],
  [{ verdict: 9 as EgressVerdict }, "spec.egress.rules[0].verdict: must be allow or deny"],
  [{ network: "203.0.113.0/33" }, "spec.egress.rules[0].network: must be an address or a network"],
  [{ network: "203.0.113.0/" }, "spec.egress.rules[0].network"],
  [{ network: "203.0.113.0/24/1" }, "spec.egress.rules[0].network"],
  [{ network: "example.org" }, "spec.egress.rules[0].network"],
  [{ network: "fe80::1%eth0" }, "spec.egress.rules[0].network"],
  [{ network: "1.1.1.1; accept" }, "spec.egress.rules[0].network"],
  [{ protocol: 7 as EgressRule["protocol"] }, "spec.egress.rules[0].protocol"],
  [{ protocol: -1 as EgressRule["protocol"] }, "spec.egress.rules[0].protocol"],
  [{ firstPort: 65_536 }, "spec.egress.rules[0].first_port: must be at most 65535"],
  [{ firstPort: 1, lastPort: 65_536 }, "spec.egress.rules[0].last_port: must be at most 65535"],
  [{ firstPort: 80, lastPort: 79 }, "spec.egress.rules[0].last_port: must not be before the first, 80"],
  [{ lastPort: 79 }, "spec.egress.rules[0].first_port: is required"],
  [{ protocol: 3, firstPort: 80 }, "spec.egress.rules[0].first_port: ICMP has no ports"],
] as const)("%j is refused", (more, says) => {
  expect(() => checkEgress(of(rule(more)))).toThrow(says);
});

test("what is too much, or not said, is refused", () => {
  expect(() => checkEgress(of(...Array.from({ length: 65 }, () => rule({}))))).toThrow("holds 65 rules; the limit is 64");
  expect(() => checkEgress({ rules: [rule({})], otherwise: EgressVerdict.EGRESS_VERDICT_UNSPECIFIED })).toThrow("spec.egress.otherwise");
  expect(() => checkEgress({ rules: [], otherwise: 5 as EgressVerdict })).toThrow("spec.egress.otherwise: must be allow or deny");
});
