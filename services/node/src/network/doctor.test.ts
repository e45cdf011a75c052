import { expect, test } from "vitest";
import { parseSubnet } from "./address-plan.ts";
import { doOverlap, examine, type HostFacts } from "./doctor.ts";
import { ruleCounts as countRules, wholeScript } from "./rules.ts";
import { bridgeSysctls, hostSysctls } from "./sysctls.ts";

const ruleCounts = countRules(wholeScript({ subnet: parseSubnet("172.30.0.0/16"), resolvers: [], allowed: [], denied: [] }, []));
const wanted = Object.fromEntries([...bridgeSysctls, ...hostSysctls].map(({ name, value }) => [name, value]));

const good: HostFacts = {
  isRoot: true,
  kernel: "6.1.0-18-amd64",
  programs: { nft: true, ip: true, bridge: true, conntrack: true },
  hasTun: true,
  hasKvm: true,
  links: [{ ifname: "pwbr0", flags: ["UP"] }],
  routes: [
    { dst: "default", dev: "eth0" },
    { dst: "10.0.0.0/24", dev: "eth0" },
    { dst: "172.30.0.0/16", dev: "pwbr0" },
  ],
  chains: [{ family: "inet", table: "pitwall", name: "through", hook: "forward", policy: "accept" }],
  ruleCounts,
  resolvers: ["10.0.0.2"],
  sysctls: { ...wanted, "net/netfilter/nf_conntrack_max": "262144", "net/bridge/bridge-nf-call-iptables": "0" },
  swapKb: 0,
  ksm: "0",
  smt: "0",
  vulnerable: [],
  openFiles: 1_048_576,
  mounts: 30,
};
const subnet = parseSubnet("172.30.0.0/16");

test("a host that is as it should be has nothing to remedy", () => {
  expect(examine(good, subnet).filter(({ verdict, remedy }) => verdict !== "ok" || remedy !== "")).toEqual([]);
});

const faults: readonly (readonly [string, "warn" | "fail", Partial<HostFacts>])[] = [
  ["root", "fail", { isRoot: false }],
  ["kernel", "fail", { kernel: "5.9.16" }],
  ["kernel", "fail", { kernel: "4.19.0-26-amd64" }],
  ["programs", "fail", { programs: { ...good.programs, nft: false } }],
  ["programs", "warn", { programs: { ...good.programs, conntrack: false } }],
  ["tun", "fail", { hasTun: false }],
  ["kvm", "warn", { hasKvm: false }],
  ["bridge", "fail", { links: [{ ifname: "pwbr0", flags: [] }] }],
  ["firewall", "fail", { ruleCounts: new Map() }],
  ["firewall", "fail", { ruleCounts: new Map([...ruleCounts, ["bridge sent", 0]]) }],
  ["forwarding", "fail", { sysctls: { ...good.sysctls, "net/ipv4/ip_forward": "0" } }],
  ["bridge settings", "fail", { sysctls: { ...good.sysctls, "net/ipv4/conf/pwbr0/rp_filter": "0" } }],
  ["subnet", "fail", { routes: [{ dst: "172.30.5.0/24", dev: "eth1" }] }],
  ["names", "warn", { resolvers: [] }],
  [
    "other firewalls",
    "warn",
    { chains: [...good.chains, { family: "ip", table: "filter", name: "FORWARD", hook: "forward", policy: "drop" }] },
  ],
  ["bridged frames", "warn", { sysctls: { ...good.sysctls, "net/bridge/bridge-nf-call-iptables": "1" } }],
  ["conntrack", "warn", { sysctls: { ...good.sysctls, "net/netfilter/nf_conntrack_max": "8192" } }],
  ["swap", "warn", { swapKb: 1024 }],
  ["same-page merging", "warn", { ksm: "1" }],
  ["hyper-threading", "warn", { smt: "1" }],
  ["processor", "warn", { vulnerable: ["mds"] }],
  ["open files", "warn", { openFiles: 1024 }],
  ["mounts", "warn", { mounts: 5_000 }],
];

test.each(faults)("%s: %s when it is not so, with what to do, and nothing else changes", (check, verdict, change) => {
  const found = examine({ ...good, ...change }, subnet).filter((one) => one.verdict !== "ok");
  expect(found).toMatchObject([{ check, verdict }]);
  expect(found[0]?.remedy).not.toBe("");
});

test("each check is forced red once", () => {
  expect(new Set(faults.map(([check]) => check))).toEqual(new Set(examine(good, subnet).map(({ check }) => check)));
});

test.each([
  ["10.0.0.0/8", "10.1.0.0/16", true],
  ["10.1.0.0/16", "10.0.0.0/8", true],
  ["10.1.0.0/16", "10.2.0.0/16", false],
  ["172.30.7.7", "172.30.0.0/16", true],
])("%s and %s overlap: %s", (a, b, expected) => {
  expect(doOverlap(a, b)).toBe(expected);
});
