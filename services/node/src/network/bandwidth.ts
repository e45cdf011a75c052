// How much a VM may send and be sent, as chains of nftables that what the node forwards for it goes through first. Pure.
//
// The kernel drops what is beyond the rate and TCP finds its pace by that. It is in the firewall and not in the queues of the TAP, because there
// it is in force with the VM's other rules, in one transaction, is found out where somebody has taken it away, and needs nothing else of the host.
import { namesOf, type OwnRules, type Subnet, type VmPort } from "./address-plan.ts";

/** Packets come in bundles of up to 64 KiB, so less would let none of them through. */
const leastBurst = 256 * 1024;
/** Of the VM's rate: as long as a connection takes to hear of a loss. */
const burstMs = 100;
const mostBurst = 64 * 2 ** 20;

const ways = ["out", "in"] as const;
type PacedWay = (typeof ways)[number];

/** Which VMs have such a chain, by their addresses: `MAP` of the table. */
export const pacedMaps: readonly string[] = ways.flatMap((way) => [
  `map paced_${way}4 { type ipv4_addr : verdict; }`,
  `map paced_${way}6 { type ipv6_addr : verdict; }`,
]);

/** For the chains through which all passes; each goes on behind it. */
export const pacedRules: Readonly<Record<PacedWay, readonly string[]>> = {
  out: ["ip saddr vmap @paced_out4", "ip6 saddr vmap @paced_out6"],
  in: ["ip daddr vmap @paced_in4", "ip6 daddr vmap @paced_in6"],
};

export function hasPace({ bandwidthInBps = 0n, bandwidthOutBps = 0n }: OwnRules): boolean {
  return bandwidthInBps > 0n || bandwidthOutBps > 0n;
}

/** `had`: it may have had such chains before. Repeatable. */
export function paceScript(subnet: Subnet, port: VmPort, had: boolean): readonly string[] {
  return chainsOf(subnet, port).flatMap(({ chain, elements, bps }) =>
    bps > 0n
      ? [
          ...[`add chain ${chain}`, `flush chain ${chain}`, `add rule ${chain} ${limitOf(bps)} counter drop`],
          ...elements.map((element) => `add element ${element}`),
        ]
      : had
        ? gone(chain, elements)
        : [],
  );
}

/** Of a VM that may have had some. Deleting what is not there fails, so it is made first. */
export function noPaceScript(subnet: Subnet, port: VmPort): readonly string[] {
  return chainsOf(subnet, port).flatMap(({ chain, elements }) => gone(chain, elements));
}

/** The elements lead to the chain, so they go first. */
function gone(chain: string, elements: readonly string[]): readonly string[] {
  return [
    `add chain ${chain}`,
    ...elements.flatMap((element) => [`add element ${element}`, `delete element ${element}`]),
    ...[`flush chain ${chain}`, `delete chain ${chain}`],
  ];
}

function chainsOf(subnet: Subnet, port: VmPort): readonly { chain: string; elements: readonly string[]; bps: bigint }[] {
  const { tap, address6 } = namesOf(subnet, port);
  return ways.map((way) => ({
    chain: `inet pitwall pace_${way}_${tap}`,
    elements: [
      `inet pitwall paced_${way}4 { ${port.address} : jump pace_${way}_${tap} }`,
      `inet pitwall paced_${way}6 { ${address6} : jump pace_${way}_${tap} }`,
    ],
    bps: (way === "out" ? port.bandwidthOutBps : port.bandwidthInBps) ?? 0n,
  }));
}

function limitOf(bps: bigint): string {
  const bytesPerS = bps / 8n > 0n ? bps / 8n : 1n;
  const burst = Math.min(mostBurst, Math.max(leastBurst, Math.floor((Number(bytesPerS) * burstMs) / 1000)));
  return `limit rate over ${bytesPerS} bytes/second burst ${burst} bytes`;
}
