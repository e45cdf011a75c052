import { EgressProtocol, EgressRule, EgressVerdict, type Egress } from "@pitwall/proto/pitwall/v1/vm.ts";
import { expect, test } from "vitest";
import { denyAll, egressRules } from "./egress.ts";

const { EGRESS_VERDICT_ALLOW: allow, EGRESS_VERDICT_DENY: deny, EGRESS_VERDICT_UNSPECIFIED: nothing } = EgressVerdict;
const of = (otherwise: EgressVerdict, ...rules: Partial<EgressRule>[]): Egress => ({
  rules: rules.map((rule) => EgressRule.fromPartial(rule)),
  otherwise,
});

test("what no rule fits passes only where that is said", () => {
  expect(egressRules(of(allow), "out")).toEqual(["accept"]);
  expect(egressRules(of(deny), "out")).toEqual(["goto refuse"]);
  expect(egressRules(of(nothing), "out")).toEqual(["goto refuse"]);
  expect(egressRules(denyAll, "back")).toEqual(["counter drop"]);
});

test("rules are in their order, each with all that it names, and the other way round for what comes back", () => {
  const { EGRESS_PROTOCOL_TCP: tcp, EGRESS_PROTOCOL_ICMP: icmp } = EgressProtocol;
  const egress = of(
    deny,
    { verdict: deny, network: "203.0.113.0/24", protocol: tcp, firstPort: 25 },
    { verdict: allow, network: "2001:db8::/32", firstPort: 80, lastPort: 443 },
    { verdict: allow, protocol: icmp },
  );
  expect(egressRules(egress, "out")).toEqual([
    "ip daddr 203.0.113.0/24 meta l4proto tcp th dport 25-25 goto refuse",
    "ip6 daddr 2001:db8::/32 meta l4proto { tcp, udp } th dport 80-443 accept",
    "meta l4proto { icmp, ipv6-icmp } accept",
    "goto refuse",
  ]);
  expect(egressRules(egress, "back")).toEqual([
    "ip saddr 203.0.113.0/24 meta l4proto tcp th sport 25-25 counter drop",
    "ip6 saddr 2001:db8::/32 meta l4proto { tcp, udp } th sport 80-443 accept",
    "meta l4proto { icmp, ipv6-icmp } accept",
    "counter drop",
  ]);
});

test.each([
  { network: "0.0.0.0/0 accept" },
  { network: "1.1.1.1" },
  { network: "::1%a/64" },
  { firstPort: 70_000 },
  { protocol: 9 as EgressRule["protocol"] },
])("%j, which no controller lets through, gets into no script", (rule) => {
  expect(() => egressRules(of(allow, { verdict: allow, ...rule }), "out")).toThrow("does not know the rule");
});
