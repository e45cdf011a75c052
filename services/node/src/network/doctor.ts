// What makes a host a good one for VMs of strangers: checks on facts that facts.ts has read, each with its remedy. Pure.
import { bridgeName, type Subnet } from "./address-plan.ts";
import { lackingRules } from "./rules.ts";
import { bridgeSysctls, hostSysctls } from "./sysctls.ts";

/** Undefined is what could not be found out. */
export interface HostFacts {
  readonly isRoot: boolean;
  /** `6.1.0-18-amd64` */
  readonly kernel: string;
  readonly programs: Readonly<Record<"nft" | "ip" | "bridge" | "conntrack", boolean>>;
  readonly hasTun: boolean;
  readonly hasKvm: boolean;
  readonly links: readonly { readonly ifname: string; readonly flags: readonly string[] }[];
  readonly routes: readonly { readonly dst: string; readonly dev?: string | undefined }[];
  readonly chains: readonly {
    readonly family: string;
    readonly table: string;
    readonly name: string;
    readonly hook?: string | undefined;
    readonly policy?: string | undefined;
  }[];
  /** Of Pitwall's own chains, by `FAMILY CHAIN`. */
  readonly ruleCounts: ReadonlyMap<string, number>;
  readonly resolvers: readonly string[];
  /** By name, those that the kernel has. */
  readonly sysctls: Readonly<Record<string, string | undefined>>;
  readonly swapKb: number;
  readonly ksm: string | undefined;
  readonly smt: string | undefined;
  /** Of the processor's weaknesses, those that the kernel calls vulnerable. */
  readonly vulnerable: readonly string[];
  readonly openFiles: number | undefined;
  readonly mounts: number;
}

/** `warn`: VMs run, and something is worse than it could be. */
export type Verdict = "ok" | "warn" | "fail";

export interface Finding {
  readonly check: string;
  readonly verdict: Verdict;
  readonly found: string;
  /** Empty when all is well. */
  readonly remedy: string;
}

const leastKernel = [5, 10] as const;
const leastFiles = 65_536;
const mostMounts = 2_000;
const leastConntrack = 65_536;

/** In the order in which they are best remedied. */
export function examine(facts: HostFacts, subnet: Subnet): readonly Finding[] {
  return [...rights(facts), ...network(facts, subnet), ...host(facts)];
}

function finding(check: string, isWell: boolean, found: string, remedy: string, otherwise: Verdict = "fail"): Finding {
  return { check, verdict: isWell ? "ok" : otherwise, found, remedy: isWell ? "" : remedy };
}

function rights({ isRoot, kernel, programs, hasTun, hasKvm }: HostFacts): readonly Finding[] {
  const [major = 0, minor = 0] = kernel.split(/[.-]/).map(Number);
  const isNew = major > leastKernel[0] || (major === leastKernel[0] && minor >= leastKernel[1]);
  const missing = Object.entries(programs).flatMap(([name, isThere]) => (isThere ? [] : [name]));
  return [
    finding("root", isRoot, isRoot ? "yes" : "no", "run the agent as root: it makes TAPs and firewall rules"),
    finding("kernel", isNew, kernel, `run a kernel of ${leastKernel.join(".")} or later`),
    finding(
      "programs",
      missing.length === 0,
      missing.length === 0 ? "nft, ip, bridge, conntrack" : `missing: ${missing.join(", ")}`,
      "apt-get install nftables iproute2 conntrack",
      missing.every((name) => name === "conntrack") ? "warn" : "fail",
    ),
    finding("tun", hasTun, hasTun ? "/dev/net/tun" : "no /dev/net/tun", "modprobe tun"),
    finding(
      "kvm",
      hasKvm,
      hasKvm ? "/dev/kvm opens" : "no usable /dev/kvm",
      "switch virtualization on in the firmware: without it VMs are emulated",
      "warn",
    ),
  ];
}

function network(facts: HostFacts, subnet: Subnet): readonly Finding[] {
  const { links, routes, chains, ruleCounts, resolvers, sysctls } = facts;
  const isUp = links.some(({ ifname, flags }) => ifname === bridgeName && flags.includes("UP"));
  const missing = lackingRules(ruleCounts);
  const wrong = (isUp ? bridgeSysctls : []).filter(({ name, value }) => sysctls[name] !== undefined && sysctls[name] !== value);
  const closed = hostSysctls.filter(({ name, value }) => sysctls[name] !== undefined && sysctls[name] !== value);
  const overlaps = routes.filter(({ dst, dev }) => dev !== bridgeName && dst !== "default" && doOverlap(dst, subnet.cidr));
  const others = chains.filter(({ table, hook, policy }) => table !== "pitwall" && hook === "forward" && policy === "drop");
  const filtered = ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"].filter((name) => sysctls[name] === "1");
  const conntrack = Number(sysctls["net/netfilter/nf_conntrack_max"] ?? leastConntrack);
  const dotted = (names: readonly { readonly name: string }[]): string => names.map(({ name }) => name.replaceAll("/", ".")).join(", ");
  const again = "run `pitwall node setup`";
  return [
    finding("bridge", isUp, isUp ? `${bridgeName} is up` : `${bridgeName} is not there, or down`, again),
    finding("firewall", missing.length === 0, missing.length === 0 ? "both tables are whole" : `missing: ${missing.join(", ")}`, again),
    finding("forwarding", closed.length === 0, closed.length === 0 ? "on" : `off: ${dotted(closed)}`, again),
    finding("bridge settings", wrong.length === 0, wrong.length === 0 ? "as they should be" : `changed: ${dotted(wrong)}`, again),
    finding(
      "subnet",
      overlaps.length === 0,
      overlaps.length === 0 ? subnet.cidr : `${subnet.cidr} overlaps with ${overlaps.map(({ dst }) => dst).join(", ")}`,
      "choose another PITWALL_SUBNET",
    ),
    finding(
      "names",
      resolvers.length > 0,
      resolvers.length > 0 ? resolvers.join(", ") : "the host asks only itself for names",
      "name servers that VMs can reach in PITWALL_DNS",
      "warn",
    ),
    finding(
      "other firewalls",
      others.length === 0,
      others.length === 0
        ? "none drops what is forwarded"
        : `${others.map(({ family, table, name }) => `${family} ${table} ${name}`).join(", ")}: drops what it does not know`,
      `accept what comes from ${bridgeName} and goes to it there; with Docker: iptables -I DOCKER-USER -i ${bridgeName} -j ACCEPT; iptables -I DOCKER-USER -o ${bridgeName} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT`,
      "warn",
    ),
    finding(
      "bridged frames",
      filtered.length === 0,
      filtered.length === 0 ? "not seen by iptables" : `seen by iptables: ${filtered.map((name) => name.split("/").at(-1)).join(", ")}`,
      "set them to 0, unless Kubernetes on this host needs them: frames of VMs pass other people's rules twice",
      "warn",
    ),
    finding(
      "conntrack",
      conntrack >= leastConntrack,
      `room for ${conntrack} connections`,
      `sysctl net.netfilter.nf_conntrack_max=${4 * leastConntrack}`,
      "warn",
    ),
  ];
}

function host({ swapKb, ksm, smt, vulnerable, openFiles, mounts }: HostFacts): readonly Finding[] {
  const files = openFiles ?? leastFiles;
  return [
    finding(
      "swap",
      swapKb === 0,
      swapKb === 0 ? "off" : `${swapKb} KiB`,
      "swapoff -a, and take it out of /etc/fstab: it holds VMs' memory after their end",
      "warn",
    ),
    finding(
      "same-page merging",
      ksm !== "1",
      ksm === "1" ? "on" : "off",
      "echo 0 > /sys/kernel/mm/ksm/run: it tells VMs what is in others' memory",
      "warn",
    ),
    finding(
      "hyper-threading",
      smt !== "1",
      smt === "1" ? "on" : "off",
      "echo off > /sys/devices/system/cpu/smt/control, where VMs of people who do not trust each other share the host",
      "warn",
    ),
    finding(
      "processor",
      vulnerable.length === 0,
      vulnerable.length === 0 ? "mitigated" : `vulnerable: ${vulnerable.join(", ")}`,
      "install the microcode and the latest kernel, and boot without mitigations=off",
      "warn",
    ),
    finding(
      "open files",
      files >= leastFiles,
      openFiles === undefined ? "unlimited" : String(openFiles),
      `LimitNOFILE=${leastFiles} in the agent's unit`,
      "warn",
    ),
    finding(
      "mounts",
      mounts <= mostMounts,
      String(mounts),
      "unmount what nobody uses: each new process with mounts of its own copies them all",
      "warn",
    ),
  ];
}

/** Of IPv4 only. */
export function doOverlap(a: string, b: string): boolean {
  const [first, second] = [a, b].map((cidr) => {
    const [address = "", bits = "32"] = cidr.split("/");
    const start = address.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
    return { start, end: start + 2 ** (32 - Number(bits)) - 1 };
  });
  return first !== undefined && second !== undefined && first.start <= second.end && second.start <= first.end;
}
