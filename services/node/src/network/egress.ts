// A VM's own rules for what it sends, as chains of nftables that only what the node lets out comes to. Pure.
//
// Each packet of the VM is looked at, not each connection: a change of the rules is one for what is open, too. What comes back goes through the
// same rules the other way round, so that a flow that is denied is denied both ways.
import { isIP } from "node:net";
import { EgressProtocol, EgressVerdict, type Egress, type EgressRule } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError } from "@pitwall/runtime";
import type { OwnRules } from "./address-plan.ts";

/** Nothing passes: of a VM whose rules are not known. */
export const denyAll: Egress = { rules: [], otherwise: EgressVerdict.EGRESS_VERDICT_DENY };

/** What VMs send, or what comes back to them. */
export type Way = "out" | "back";

/** Nothing passes where a rule is one that this agent does not know. */
export function heedable({ egress, bandwidthInBps, bandwidthOutBps }: OwnRules = {}): OwnRules {
  const paces = { bandwidthInBps, bandwidthOutBps };
  try {
    if (egress) egressRules(egress, "out");
    return { egress, ...paces };
  } catch {
    return { egress: denyAll, ...paces };
  }
}

/** Where what is denied goes. */
const denied: Readonly<Record<Way, string>> = { out: "goto refuse", back: "counter drop" };

/** Rules of a chain, in their order. Throws `internal` for what no controller lets through that checks it: it would go into a script. */
export function egressRules({ rules, otherwise }: Egress, way: Way): readonly string[] {
  return [...rules.map((rule) => [...matches(rule, way), verdictOf(rule.verdict, way)].join(" ")), verdictOf(otherwise, way)];
}

/** What is neither is denied. */
function verdictOf(verdict: EgressVerdict, way: Way): string {
  return verdict === EgressVerdict.EGRESS_VERDICT_ALLOW ? "accept" : denied[way];
}

function matches({ network, protocol, firstPort, lastPort }: EgressRule, way: Way): readonly string[] {
  const hasPort = firstPort > 0;
  const [address, port] = way === "out" ? ["daddr", "dport"] : ["saddr", "sport"];
  return [
    ...(network === "" ? [] : [`${isNetwork6(network) ? "ip6" : "ip"} ${address} ${network}`]),
    ...protocolOf(protocol, hasPort),
    ...(hasPort ? [`th ${port} ${portOf(firstPort)}-${portOf(lastPort || firstPort)}`] : []),
  ];
}

function protocolOf(protocol: EgressProtocol, hasPort: boolean): readonly string[] {
  switch (protocol) {
    case EgressProtocol.EGRESS_PROTOCOL_TCP:
      return ["meta l4proto tcp"];
    case EgressProtocol.EGRESS_PROTOCOL_UDP:
      return ["meta l4proto udp"];
    case EgressProtocol.EGRESS_PROTOCOL_ICMP:
      return ["meta l4proto { icmp, ipv6-icmp }"];
    case EgressProtocol.EGRESS_PROTOCOL_UNSPECIFIED:
      return hasPort ? ["meta l4proto { tcp, udp }"] : [];
    default:
      throw notChecked(String(protocol)); // of a newer controller: no rule is better than one that says something else
  }
}

function isNetwork6(network: string): boolean {
  const [address = "", bits = "", ...more] = network.split("/");
  const family = address.includes("%") ? 0 : isIP(address);
  if (family === 0 || !/^\d{1,3}$/.test(bits) || more.length > 0) throw notChecked(network);
  return family === 6;
}

function portOf(port: number): number {
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw notChecked(String(port));
  return port;
}

function notChecked(what: string): PitwallError {
  const message = `this node's agent does not know the rule for what the VM sends: ${JSON.stringify(what.slice(0, 40))}; update it`;
  return new PitwallError("unsupported", message, { reason: "EGRESS_UNSUPPORTED" });
}
