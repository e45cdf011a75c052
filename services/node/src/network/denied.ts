// What VMs were denied, as the firewall has counted it: by VM, destination, protocol and port, in sets of the kernel's that forget what was not
// tried again for an hour.
//
// Both a VM and the node have a bound: a VM may add so many at once, and so many a minute; what is beyond that is counted, and not listed.
import { BlockList, isIPv4 } from "node:net";
import { DeniedFlow_By as By, type DeniedFlow } from "@pitwall/proto/pitwall/v1/vm.ts";
import { z } from "zod";
import { output } from "./commands.ts";

/** How long a flow is remembered that is not tried again. */
const rememberedS = 3_600;
/** Of one VM: with these an hour holds at most 184. */
const burst = 64;
const perMinute = 2;
/** Of a node. A counter costs memory for each CPU of the host. */
const mostFlows = 16_384;
const mostVms = 65_536;

const tcpAndUdp = "{ tcp, udp }";

/** As the sets have it. */
export interface Denied {
  readonly set: string;
  readonly from: string;
  readonly to: string;
  /** IANA's number. */
  readonly protocol: number;
  /** 0: the protocol has none. */
  readonly port: number;
  readonly packets: number;
  /** Until it is forgotten. */
  readonly leftS: number;
}

const families = ["4", "6"] as const;
const flowSets = families.flatMap((family) => [`refused${family}`, `refused_else${family}`]);
/** Of a VM's address each. */
const vmSets = families.flatMap((family) => [`refused_new${family}`, `refused_more${family}`]);

const flags = `flags dynamic, timeout; timeout ${rememberedS}s;`;

/** For the table. */
export const deniedSets: readonly string[] = families.flatMap((family) => {
  const address = `ipv${family}_addr`;
  return [
    `set refused${family} { type ${address} . ${address} . inet_proto . inet_service; size ${mostFlows}; ${flags} }`,
    `set refused_else${family} { type ${address} . ${address} . inet_proto; size ${mostFlows}; ${flags} }`,
    `set refused_new${family} { type ${address}; size ${mostVms}; ${flags} }`,
    `set refused_more${family} { type ${address}; size ${mostVms}; ${flags} }`,
  ];
});

/** Rules of the chain that everything goes to that VMs are denied. A set that is full takes nothing, and the next rule is tried. */
export const refuseRules: readonly string[] = [
  ...families.flatMap((family) => [
    ...countRules(family, `meta l4proto ${tcpAndUdp} `, `refused${family}`, " . th dport"),
    ...countRules(family, `meta l4proto != ${tcpAndUdp} `, `refused_else${family}`, ""),
    `update @refused_more${family} { ${ipOf(family)} saddr counter } counter drop`,
  ]),
  "counter drop",
];

function ipOf(family: (typeof families)[number]): string {
  return family === "4" ? "ip" : "ip6";
}

function countRules(family: (typeof families)[number], which: string, set: string, port: string): readonly string[] {
  const ip = ipOf(family);
  const flow = `${ip} saddr . ${ip} daddr . meta l4proto${port}`;
  const tooMany = `update @refused_new${family} { ${ip} saddr limit rate over ${perMinute}/minute burst ${burst} packets }`;
  return [
    `${which}${flow} != @${set} ${tooMany} update @refused_more${family} { ${ip} saddr counter } counter drop`,
    `${which}update @${set} { ${flow} counter } counter drop`,
  ];
}

const counted = z.object({ expires: z.number().optional(), counter: z.object({ packets: z.number() }) });
const flowElement = counted.extend({
  val: z.object({
    concat: z.union([z.tuple([z.string(), z.string(), z.number(), z.number()]), z.tuple([z.string(), z.string(), z.number()])]),
  }),
});
const vmElement = counted.extend({ val: z.string() });

/** All of the node; empty where there is no such table. */
export async function readDenied(): Promise<readonly Denied[]> {
  const found = await Promise.all(flowSets.map(async (set) => ({ set, elements: await readSet(set, flowElement) })));
  return found.flatMap(({ set, elements }) =>
    elements.map(({ val: { concat }, expires = 0, counter }) => {
      const [from, to, protocol, port = 0] = concat;
      return { set, from, to, protocol, port, packets: counter.packets, leftS: expires };
    }),
  );
}

/** How many packets of this VM were counted and not listed. */
async function readUnlisted(addresses: readonly string[]): Promise<number> {
  const all = await Promise.all(families.map((family) => readSet(`refused_more${family}`, vmElement)));
  return all.flat().reduce((sum, { val, counter }) => sum + (addresses.includes(val) ? counter.packets : 0), 0);
}

async function readSet<T>(set: string, element: z.ZodType<T>): Promise<readonly T[]> {
  const text = await output("nft", ["-j", "-n", "list", "set", "inet", "pitwall", set]).catch(() => undefined);
  if (text === undefined) return [];
  const listed = z.object({
    nftables: z.array(z.object({ set: z.object({ elem: z.array(z.object({ elem: element })).optional() }).optional() })),
  });
  return listed.parse(JSON.parse(text)).nftables.flatMap(({ set: one }) => (one?.elem ?? []).map(({ elem }) => elem));
}

const elementOf = ({ from, to, protocol, port, set }: Denied): string =>
  [from, to, protocol, ...(set.startsWith("refused_else") ? [] : [port])].join(" . ");

/** The same again, in a table that is made anew. */
export function keepDeniedLines(denied: readonly Denied[]): readonly string[] {
  return denied
    .filter(({ leftS }) => leftS > 0)
    .map((one) => {
      const left = `counter packets ${one.packets} bytes 0 timeout ${rememberedS}s expires ${one.leftS}s`;
      return `add element inet pitwall ${one.set} { ${elementOf(one)} ${left} }`;
    });
}

/** Whoever has these addresses next has been denied nothing. Deleting what is not there fails, so it is made first. */
export function forgetDeniedLines(denied: readonly Denied[], addresses: readonly string[]): readonly string[] {
  const flows = denied.filter(({ from }) => addresses.includes(from)).map((one) => `${one.set} { ${elementOf(one)} }`);
  const vms = addresses.flatMap((address) =>
    vmSets.filter((set) => set.endsWith("4") === isIPv4(address)).map((set) => `${set} { ${address} }`),
  );
  return [...flows, ...vms].flatMap((element) => [`add element inet pitwall ${element}`, `delete element inet pitwall ${element}`]);
}

export interface DeniedFlows {
  /** Those that were tried last come first. */
  readonly flows: readonly DeniedFlow[];
  readonly unlistedPackets: bigint;
}

/** Of a VM with these addresses. `closed`: networks where the node lets nobody, whatever their rules. */
export async function deniedOf(addresses: readonly string[], isClosed: (address: string) => boolean, nowMs: number): Promise<DeniedFlows> {
  const [denied, unlisted] = await Promise.all([readDenied(), readUnlisted(addresses)]);
  const flows = denied
    .filter(({ from }) => addresses.includes(from))
    .toSorted((one, other) => other.leftS - one.leftS || other.packets - one.packets)
    .map(({ to, protocol, port, packets, leftS }) => ({
      ...{ destination: to, protocol, port, packets: BigInt(packets) },
      lastTime: new Date(nowMs - (rememberedS - leftS) * 1_000),
      by: isClosed(to) ? By.BY_NODE : By.BY_RULES,
    }));
  return { flows, unlistedPackets: BigInt(unlisted) };
}

/** Whether an address is in one of these networks. A list for each family: in one, an IPv4 address is in ::ffff:0:0/96 as well. */
export function blockListOf(networks: readonly string[]): (address: string) => boolean {
  const lists = { ipv4: new BlockList(), ipv6: new BlockList() };
  for (const network of networks) {
    const [address = "", bits = ""] = network.split("/");
    lists[familyOf(address)].addSubnet(address, Number(bits), familyOf(address));
  }
  return (address) => lists[familyOf(address)].check(address, familyOf(address));
}

const familyOf = (address: string): "ipv4" | "ipv6" => (isIPv4(address) ? "ipv4" : "ipv6");
