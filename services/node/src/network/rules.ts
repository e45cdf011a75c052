// The firewall of a node's VMs, as one script for `nft -f`: everything anew in one transaction, or the elements of a few VMs. Pure.
//
// Two tables are Pitwall's, `bridge pitwall` and `inet pitwall`; nobody else's is named. The first looks at each frame as it comes out of a TAP:
// only the VM's own addresses come any further, and only to the host itself. The second decides what of that is routed, and where.
// How many rules there are depends on how many VMs have rules of their own, not on the others: those are elements of sets. How many a packet is
// held against depends on neither.
import { bridgeName, namesOf, parseSubnet, type Subnet, type VmPort } from "./address-plan.ts";
import { hasPace, noPaceScript, pacedMaps, pacedRules, paceScript } from "./bandwidth.ts";
import { blockListOf, deniedSets, forgetDeniedLines, keepDeniedLines, refuseRules, type Denied } from "./denied.ts";
import { egressRules, type Way } from "./egress.ts";

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

const is6 = (address: string): boolean => address.includes(":");

/** Where no VM of this node gets, whatever its rules. */
export function closedTo({ allowed, denied, resolvers }: RuleSet): (address: string) => boolean {
  const [isClosed, isAllowed, isDenied] = [[...closed4, ...closed6], allowed, denied].map(blockListOf);
  return (address) =>
    isDenied?.(address) === true || (isClosed?.(address) === true && isAllowed?.(address) !== true && !resolvers.includes(address));
}

/** Replaces all that is there in one transaction: it is never half there, and never not there. What VMs were denied so far is kept. */
export function wholeScript(rules: RuleSet, ports: readonly VmPort[], kept: readonly Denied[] = []): string {
  const tables = ["bridge", "inet"].map((family) => `table ${family} pitwall`);
  return [
    ...tables.flatMap((table) => [`add ${table}`, `delete ${table}`]),
    bridgeTable(rules.subnet),
    inetTable(rules),
    ...ports.map((port) => joinScript(rules.subnet, port)),
    ...keepDeniedLines(kept),
    "",
  ].join("\n");
}

/** A VM's addresses become good, and its own rules what they are now. Repeatable. `had`: it may have had rules of its own before. */
export function joinScript(subnet: Subnet, port: VmPort, had = false): string {
  return [
    ...paceScript(subnet, port, had),
    ...egressScript(subnet, port, had),
    ...elementsOf(subnet, port).map((element) => `add element ${element}`),
  ].join("\n");
}

/**
 * They are nobody's any more. Repeatable: deleting what is not there fails, so it is made first. Its addresses go before its rules, so that
 * nothing passes that they would not let through.
 */
export function leaveScript(subnet: Subnet, port: VmPort, had = false, denied: readonly Denied[] = []): string {
  return [...elementsOf(subnet, port), ...freeOf(subnet, port)]
    .flatMap(anewAndGone)
    .concat(had || port.egress ? noChainsOf(subnet, port) : [])
    .concat(had || hasPace(port) ? noPaceScript(subnet, port) : [])
    .concat(forgetDeniedLines(denied, addressesOf(subnet, port)))
    .join("\n");
}

/**
 * A VM without rules is in a set; one with rules has a chain for each way, filled anew in the same transaction, so that nothing slips through
 * meanwhile. One that is nowhere sends nothing.
 */
function egressScript(subnet: Subnet, port: VmPort, had: boolean): readonly string[] {
  const { egress } = port;
  if (!egress) return [...freeOf(subnet, port).map((element) => `add element ${element}`), ...(had ? noChainsOf(subnet, port) : [])];
  const chains = chainsOf(subnet, port).flatMap(({ chain, way, elements }) => [
    ...[`add chain ${chain}`, `flush chain ${chain}`],
    ...egressRules(egress, way).map((rule) => `add rule ${chain} ${rule}`),
    ...elements.map((element) => `add element ${element}`),
  ]);
  return [...chains, ...freeOf(subnet, port).flatMap(anewAndGone)];
}

const anewAndGone = (element: string): string[] => [`add element ${element}`, `delete element ${element}`];

/** The elements lead to the chains, so they go first. */
function noChainsOf(subnet: Subnet, port: VmPort): string[] {
  return chainsOf(subnet, port).flatMap(({ chain, elements }) => [
    `add chain ${chain}`,
    ...elements.flatMap(anewAndGone),
    ...[`flush chain ${chain}`, `delete chain ${chain}`],
  ]);
}

interface VmChain {
  readonly chain: string;
  readonly way: Way;
  readonly elements: readonly string[];
}

function chainsOf(subnet: Subnet, port: VmPort): readonly VmChain[] {
  const { tap, address6 } = namesOf(subnet, port);
  return (["out", "back"] as const).map((way) => ({
    chain: `inet pitwall ${way}_${tap}`,
    way,
    elements: [
      `inet pitwall ruled_${way}4 { ${port.address} : goto ${way}_${tap} }`,
      `inet pitwall ruled_${way}6 { ${address6} : goto ${way}_${tap} }`,
    ],
  }));
}

function freeOf(subnet: Subnet, port: VmPort): readonly string[] {
  return [`inet pitwall free4 { ${port.address} }`, `inet pitwall free6 { ${namesOf(subnet, port).address6} }`];
}

/** As it sends with, to others than the host. */
export function addressesOf(subnet: Subnet, port: VmPort): readonly string[] {
  return [port.address, namesOf(subnet, port).address6];
}

function elementsOf(subnet: Subnet, port: VmPort): readonly string[] {
  const { tap, mac, address6, linkLocal } = namesOf(subnet, port);
  return [
    ["macs", mac],
    ["addresses4", port.address],
    ["addresses6", address6],
    ["addresses6", linkLocal],
  ].map(([set, is]) => `bridge pitwall ${set} { "${tap}" . ${is} }`);
}

/** How many rules each chain has, by `FAMILY CHAIN`: what the script makes that replaces everything. */
export function ruleCounts(script: string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  let [family, chain] = ["", ""];
  for (const line of script.split("\n")) {
    family = /^table (\w+) pitwall \{$/.exec(line)?.[1] ?? family;
    const opened = /^ {2}chain (\w+) \{$/.exec(line)?.[1];
    const [, ruled, added] = /^add rule inet pitwall (\w+) (.+)$/.exec(line) ?? [];
    if (opened !== undefined) chain = opened;
    const key = ruled === undefined ? `${family} ${chain}` : `inet ${ruled}`;
    const isRule = added !== undefined || (/^ {4}\S/.test(line) && !/^ {4}type \w+ hook /.test(line));
    if (isRule || opened !== undefined) counts.set(key, (counts.get(key) ?? 0) + Number(isRule));
  }
  return counts;
}

/** Chains that are not there, or have fewer rules than they should: somebody has flushed them. */
export function lackingChains(wanted: ReadonlyMap<string, number>, there: ReadonlyMap<string, number>): readonly string[] {
  return [...wanted].flatMap(([chain, count]) => ((there.get(chain) ?? -1) < count ? [chain] : []));
}

/** The same of what does not depend on VMs. */
export function lackingRules(there: ReadonlyMap<string, number>): readonly string[] {
  return lackingChains(commonCounts, there);
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
  chain at_port {
    type filter hook prerouting priority -300; policy accept;
    iifname "${tapPattern}" goto sent
  }
  chain at_host {
    type filter hook input priority -200; policy accept;
    iifname "${tapPattern}" goto sent
  }
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
    ...["out4", "back4"].map((map) => `  map ruled_${map} { type ipv4_addr : verdict; }`),
    ...["out6", "back6"].map((map) => `  map ruled_${map} { type ipv6_addr : verdict; }`),
    ...pacedMaps.map((line) => `  ${line}`),
    "  set free4 { type ipv4_addr; }",
    "  set free6 { type ipv6_addr; }",
    ...deniedSets.map((line) => `  ${line}`),
    "  set flows4 { type ipv4_addr; size 65536; flags dynamic; }",
    "  set flows6 { type ipv6_addr; size 65536; flags dynamic; }",
    "  set paces4 { type ipv4_addr; size 65536; flags dynamic; timeout 1m; }",
    "  set paces6 { type ipv6_addr; size 65536; flags dynamic; timeout 1m; }",
  ];
  const pace = `limit rate over ${newFlowsPerSecond}/second burst ${newFlowsBurst} packets`;
  return `table inet pitwall {
${sets.join("\n")}
  chain to_host {
    type filter hook input priority -10; policy accept;
    iifname "${bridgeName}" goto vm_to_host
  }
  chain through {
    type filter hook forward priority -10; policy accept;
    iifname "${bridgeName}" goto vm_out
${pacedRules.in.map((rule) => `    oifname "${bridgeName}" ${rule}`).join("\n")}
    oifname "${bridgeName}" ct state related accept
    oifname "${bridgeName}" ct state established goto vm_back
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
    oifname "${bridgeName}" goto refuse
${pacedRules.out.map((rule) => `    ${rule}`).join("\n")}
    ct state invalid counter drop
    ct state new jump vm_flow
    ip daddr @denied4 goto refuse
    ip6 daddr @denied6 goto refuse
    ip daddr @resolvers4 meta l4proto { tcp, udp } th dport 53 goto vm_rules
    ip6 daddr @resolvers6 meta l4proto { tcp, udp } th dport 53 goto vm_rules
    ip daddr @closed4 ip daddr != @allowed4 goto refuse
    ip6 daddr @closed6 ip6 daddr != @allowed6 goto refuse
    goto vm_rules
  }
  chain vm_rules {
    ip saddr vmap @ruled_out4
    ip6 saddr vmap @ruled_out6
    ip saddr @free4 accept
    ip6 saddr @free6 accept
    goto refuse
  }
  chain vm_back {
    ip daddr vmap @ruled_back4
    ip6 daddr vmap @ruled_back6
    accept
  }
  chain refuse {
${refuseRules.map((rule) => `    ${rule}`).join("\n")}
  }
  chain vm_flow {
    update @paces4 { ip saddr ${pace} } counter drop
    update @paces6 { ip6 saddr ${pace} } counter drop
    add @flows4 { ip saddr ct count over ${maxFlows} } counter drop
    add @flows6 { ip6 saddr ct count over ${maxFlows} } counter drop
  }
}`;
}

const anySubnet = parseSubnet("10.0.0.0/8");
const commonCounts = ruleCounts(wholeScript({ subnet: anySubnet, resolvers: [], allowed: [], denied: [] }, []));
