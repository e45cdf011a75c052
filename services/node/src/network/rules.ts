// The firewall of a node's VMs, as one script for `nft -f`: everything anew in one transaction, or the elements of a few VMs. Pure.
//
// Two tables are Pitwall's, `bridge pitwall` and `inet pitwall`; nobody else's is named. The first looks at each frame as it comes out of a TAP:
// only the VM's own addresses come any further, and only to the host itself. The second decides what of that is routed, and where.
// How many rules there are does not depend on how many VMs: those are elements of sets.
import { bridgeName, namesOf, type Subnet, type VmPort } from "./address-plan.ts";

/** What the whole firewall is made of. */
export interface RuleSet {
  readonly subnet: Subnet;
  /** Servers for names that VMs may ask, wherever they are. */
  readonly resolvers: readonly string[];
  /** Networks that VMs may reach although they are private; the resolvers' port 53 needs none. */
  readonly allowed: readonly string[];
  /** Networks that VMs may not reach although they are public, such as those of the controllers. */
  readonly denied: readonly string[];
}

/** By their names, for the kernel that knows bridges' names in rules is not everybody's: a TAP that is in no set gets nothing through. */
const tapPattern = "pw*";

/** Of one VM, at once: what it may have open, and begin. */
const maxFlows = 8192;
const newFlowsPerSecond = 500;
const newFlowsBurst = 2000;

/**
 * Where no VM gets by default: the host's own networks and other people's, metadata services, and what is no place at all. IPv6 ranges that
 * carry an IPv4 address are closed as a whole, since that address might be one of those.
 */
const closed4: readonly string[] = [
  ...["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"],
  ...["192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"],
];
const closed6: readonly string[] = [
  ...["::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16"],
  ...["fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"],
];

/** Of the tables' base chains, by which rules are reached at all. */
const baseChains = {
  bridge: { at_port: "prerouting", at_host: "input", between: "forward" },
  inet: { to_host: "input", through: "forward", translate: "postrouting" },
} as const;

/** Those that are not there, of all chains that are. */
export function missingChains(
  chains: readonly { readonly family: string; readonly table: string; readonly name: string; readonly hook?: string | undefined }[],
): readonly string[] {
  const there = new Set(chains.map(({ family, table, name, hook }) => [family, table, name, hook].join(" ")));
  return Object.entries(baseChains).flatMap(([family, hooks]) =>
    Object.entries(hooks).flatMap(([name, hook]) => (there.has(`${family} pitwall ${name} ${hook}`) ? [] : [`${family} ${name}`])),
  );
}

const is6 = (address: string): boolean => address.includes(":");

/** Replaces all that is there in one transaction: it is never half there, and never not there. */
export function wholeScript(rules: RuleSet, ports: readonly VmPort[]): string {
  const tables = ["bridge", "inet"].map((family) => `table ${family} pitwall`);
  return [
    ...tables.flatMap((table) => [`add ${table}`, `delete ${table}`]),
    bridgeTable(rules.subnet),
    inetTable(rules),
    ...ports.map((port) => joinScript(rules.subnet, port)),
    "",
  ].join("\n");
}

/** A VM's addresses become good. Repeatable. */
export function joinScript(subnet: Subnet, port: VmPort): string {
  return elementsOf(subnet, port)
    .map(([set, element]) => `add element bridge pitwall ${set} { ${element} }`)
    .join("\n");
}

/** They are nobody's any more. Repeatable: deleting what is not there fails, so it is made first. */
export function leaveScript(subnet: Subnet, port: VmPort): string {
  const lines = elementsOf(subnet, port).map(([set, element]) => `delete element bridge pitwall ${set} { ${element} }`);
  return [joinScript(subnet, port), ...lines].join("\n");
}

function elementsOf(subnet: Subnet, port: VmPort): readonly (readonly [string, string])[] {
  const { tap, mac, address6, linkLocal } = namesOf(subnet, port);
  return [
    ["macs", `"${tap}" . ${mac}`],
    ["addresses4", `"${tap}" . ${port.address}`],
    ["addresses6", `"${tap}" . ${address6}`],
    ["addresses6", `"${tap}" . ${linkLocal}`],
  ];
}

/**
 * At the ports and at the host's end: frames to the addresses that bridges keep for themselves come to the latter alone. Between ports nothing
 * passes at all; that is so without these rules too, since the ports are isolated, and neither relies on the other. A neighbour advertisement
 * is never needed: the host knows its VMs' MACs, and VMs know no neighbour but the host.
 */
function bridgeTable({ gateway }: Subnet): string {
  return `table bridge pitwall {
  set macs { type ifname . ether_addr; }
  set addresses4 { type ifname . ipv4_addr; }
  set addresses6 { type ifname . ipv6_addr; }
  chain at_port { type filter hook prerouting priority -300; policy accept; iifname "${tapPattern}" goto sent; }
  chain at_host { type filter hook input priority -200; policy accept; iifname "${tapPattern}" goto sent; }
  chain between {
    type filter hook forward priority -200; policy accept;
    iifname "${tapPattern}" counter drop
    oifname "${tapPattern}" counter drop
  }
  chain sent {
    iifname . ether saddr != @macs counter drop
    ether type arp goto sent_arp
    ether type ip goto sent_ip4
    ether type ip6 goto sent_ip6
    counter drop
  }
  chain sent_arp {
    arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp daddr ip ${gateway} iifname . arp saddr ether @macs iifname . arp saddr ip @addresses4 accept
    counter drop
  }
  chain sent_ip4 {
    iifname . ip saddr != @addresses4 counter drop
    ip option lsrr exists counter drop
    ip option ssrr exists counter drop
    udp sport 67 counter drop
    accept
  }
  chain sent_ip6 {
    icmpv6 type { nd-router-advert, nd-redirect, nd-neighbor-advert } counter drop
    exthdr rt exists counter drop
    udp sport 547 counter drop
    ip6 saddr :: icmpv6 type nd-neighbor-solicit accept
    iifname . ip6 saddr != @addresses6 counter drop
    accept
  }
}`;
}

/** An accept here is no more than that: tables of others, before or after, may still say no. */
function inetTable({ subnet, resolvers, allowed, denied }: RuleSet): string {
  const ofFamily = (all: readonly string[], wants6: boolean): readonly string[] => all.filter((one) => is6(one) === wants6);
  const set = (name: string, type: string, elements: readonly string[], isInterval: boolean): string =>
    `  set ${name} { type ${type};${isInterval ? " flags interval; auto-merge;" : ""}${elements.length === 0 ? "" : ` elements = { ${elements.join(", ")} };`} }`;
  const sets = [
    set("resolvers4", "ipv4_addr", ofFamily(resolvers, false), false),
    set("resolvers6", "ipv6_addr", ofFamily(resolvers, true), false),
    set("allowed4", "ipv4_addr", ofFamily(allowed, false), true),
    set("allowed6", "ipv6_addr", ofFamily(allowed, true), true),
    set("closed4", "ipv4_addr", [...closed4, ...ofFamily(denied, false)], true),
    set("closed6", "ipv6_addr", [...closed6, ...ofFamily(denied, true)], true),
    set("denied4", "ipv4_addr", ofFamily(denied, false), true),
    set("denied6", "ipv6_addr", ofFamily(denied, true), true),
    "  set flows4 { type ipv4_addr; size 65536; flags dynamic; }",
    "  set flows6 { type ipv6_addr; size 65536; flags dynamic; }",
    "  set paces4 { type ipv4_addr; size 65536; flags dynamic; timeout 1m; }",
    "  set paces6 { type ipv6_addr; size 65536; flags dynamic; timeout 1m; }",
  ];
  const pace = `limit rate over ${newFlowsPerSecond}/second burst ${newFlowsBurst} packets`;
  return `table inet pitwall {
${sets.join("\n")}
  chain to_host { type filter hook input priority -10; policy accept; iifname "${bridgeName}" goto vm_to_host; }
  chain through {
    type filter hook forward priority -10; policy accept;
    iifname "${bridgeName}" goto vm_out
    oifname "${bridgeName}" ct state established,related accept
    oifname "${bridgeName}" counter drop
  }
  chain translate {
    type nat hook postrouting priority 90; policy accept;
    oifname != "${bridgeName}" ip saddr ${subnet.cidr} masquerade
    oifname != "${bridgeName}" ip6 saddr ${subnet.cidr6} masquerade
  }
  chain vm_to_host {
    ct state established,related accept
    ip daddr ${subnet.gateway} icmp type echo-request limit rate 100/second accept
    ip6 daddr ${subnet.gateway6} icmpv6 type echo-request limit rate 100/second accept
    icmpv6 type nd-neighbor-solicit accept
    counter drop
  }
  chain vm_out {
    oifname "${bridgeName}" counter drop
    ct state invalid counter drop
    ct state new jump vm_flow
    ip daddr @denied4 counter drop
    ip6 daddr @denied6 counter drop
    ip daddr @resolvers4 meta l4proto { tcp, udp } th dport 53 accept
    ip6 daddr @resolvers6 meta l4proto { tcp, udp } th dport 53 accept
    ip daddr @closed4 ip daddr != @allowed4 counter drop
    ip6 daddr @closed6 ip6 daddr != @allowed6 counter drop
    accept
  }
  chain vm_flow {
    update @paces4 { ip saddr ${pace} } counter drop
    update @paces6 { ip6 saddr ${pace} } counter drop
    add @flows4 { ip saddr ct count over ${maxFlows} } counter drop
    add @flows6 { ip6 saddr ct count over ${maxFlows} } counter drop
  }
}`;
}
