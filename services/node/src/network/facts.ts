// Reads of a host what doctor.ts judges.
import { access, constants, readdir, readFile } from "node:fs/promises";
import { release } from "node:os";
import { join } from "node:path";
import { output, readChains, readLinks, readRoutes, readRuleCounts } from "./commands.ts";
import type { HostFacts } from "./doctor.ts";
import { bridgeSysctls, hostSysctls, readSysctl } from "./sysctls.ts";

const weaknesses = "/sys/devices/system/cpu/vulnerabilities";
const more = ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables", "net/netfilter/nf_conntrack_max"] as const;

export async function readFacts(resolvers: readonly string[]): Promise<HostFacts> {
  const names = [...bridgeSysctls, ...hostSysctls].map(({ name }) => name);
  const values = await Promise.all([...names, ...more].map(async (name) => [name, await readSysctl(name)] as const));
  const limits = await text("/proc/self/limits");
  return {
    isRoot: process.getuid?.() === 0,
    kernel: release(),
    programs: { nft: await runs("nft"), ip: await runs("ip"), bridge: await runs("bridge"), conntrack: await runs("conntrack") },
    hasTun: await opens("/dev/net/tun"),
    hasKvm: await opens("/dev/kvm"),
    links: await readLinks().catch(() => []),
    routes: await readRoutes(4).catch(() => []),
    chains: await readChains().catch(() => []),
    ruleCounts: await readRuleCounts().catch(() => new Map<string, number>()),
    resolvers,
    sysctls: Object.fromEntries(values),
    swapKb: sum(
      (await text("/proc/swaps"))
        .split("\n")
        .slice(1)
        .map((line) => Number(line.split(/\s+/)[2] ?? 0)),
    ),
    ksm: (await text("/sys/kernel/mm/ksm/run")).trim() || undefined,
    smt: (await text("/sys/devices/system/cpu/smt/active")).trim() || undefined,
    vulnerable: await vulnerable(),
    openFiles: numberOf(/^Max open files\s+(\d+)/m.exec(limits)?.[1]),
    mounts: (await text("/proc/self/mountinfo")).split("\n").length - 1,
  };
}

async function vulnerable(): Promise<string[]> {
  const all = await readdir(weaknesses).catch(() => []);
  const said = await Promise.all(all.map(async (name) => ({ name, is: await text(join(weaknesses, name)) })));
  return said.flatMap(({ name, is }) => (is.startsWith("Vulnerable") ? [name] : []));
}

async function runs(program: string): Promise<boolean> {
  return output(program, [program === "ip" || program === "bridge" ? "-V" : "--version"]).then(
    () => true,
    () => false,
  );
}

async function opens(path: string): Promise<boolean> {
  return access(path, constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
}

const text = (path: string): Promise<string> => readFile(path, "utf8").catch(() => "");
const numberOf = (word: string | undefined): number | undefined => (word === undefined ? undefined : Number(word));
const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
