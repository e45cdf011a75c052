// A host's network with two VMs, in a network namespace of its own; the other end of its uplink is the world, in another one. Prints what was seen
// as a line of JSON. Run by bridge.test.ts: `unshare -n node scenario.ts DIR`.
import { execFileSync, spawn } from "node:child_process";
import { createServer, type Server } from "node:net";
import { openLog, systemClock } from "@pitwall/runtime";
import { macOf, namesOf, parseSubnet, type VmPort } from "../../src/network/address-plan.ts";
import { openBridgeNetwork } from "../../src/network/bridge-network.ts";
import { output, readAddresses4, readLinks, readRuleCounts } from "../../src/network/commands.ts";
import { clearGround, layGround, type NetworkSettings } from "../../src/network/ground.ts";
import { lackingRules } from "../../src/network/rules.ts";
import { readSysctl } from "../../src/network/sysctls.ts";
import { arp, broadcast, echo4, ether, icmp6, ip4, ip6, ip6Bytes, macBytes, packets4, tcpSyn, udp, Wire, type Ends } from "./frames.ts";
import { anybody, hostAddress, makeWorld, worldAddress } from "./world.ts";

const [stateDir = ""] = process.argv.slice(2);
const subnet = parseSubnet("172.30.0.0/16");
const settings: NetworkSettings = { stateDir, subnet, resolvers: ["10.255.0.53"], allowed: ["10.77.0.0/16"], denied: ["203.0.113.128/25"] };
const log = openLog("network", "error");
const ownAddresses = ["172.30.0.2", "172.30.0.3"] as const;
/** Long enough for a frame to come, also where others work. */
const settleMs = 400;
const settle = (): Promise<void> => systemClock.sleep(settleMs);
const ip = (...args: readonly string[]): string => execFileSync("ip", args, { encoding: "utf8" });

const closed = [
  ...["169.254.169.254", "169.254.1.1", "10.0.0.1", "10.255.255.254", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.254"],
  ...["100.64.0.1", "100.127.255.254", "127.0.0.1", "127.9.9.9", "0.0.0.1", "192.0.0.8", "198.18.0.1", "198.19.255.254", "224.0.0.1"],
  ...[
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "203.0.113.129",
    "203.0.113.254",
    hostAddress,
    "172.30.0.3",
    "172.30.9.9",
    "10.255.0.53",
  ],
];
const open = [anybody, "1.1.1.1", "9.9.9.9", "100.63.255.254", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.167.0.1", "192.169.0.1"];
const alsoOpen = ["169.253.0.1", "169.255.0.1", "11.0.0.1", "10.77.0.1", "10.77.255.254", worldAddress];

const listing = async (): Promise<string> => {
  const sysctls = await Promise.all(["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].map(readSysctl));
  return [await output("nft", ["-s", "list", "ruleset"]), ip("-br", "link"), ip("route"), ip("-6", "route"), ...sysctls].join("\n");
};

function spoofs(me: VmPort, victim: VmPort): Readonly<Record<string, Buffer>> {
  const [mine, its] = [namesOf(subnet, me), namesOf(subnet, victim)];
  const gatewayMac = macOf(subnet.gateway);
  const toHost: Ends = { from: mine.mac, to: gatewayMac };
  const out: Ends = { from: me.address, to: anybody };
  const send4 = (ends: Ends, payload = udp(ends, 40_000, 9)): Buffer => ether(toHost, 0x0800, ip4(ends, 17, payload));
  const send6 = (ends: Ends, type: number, data: Buffer): Buffer => ether(toHost, 0x86dd, ip6(ends, 58, icmp6(ends, type, data)));
  const allNodes = { from: mine.linkLocal, to: "ff02::1" };
  const good = ip4(out, 17, udp(out, 40_000, 9));
  return {
    "another's MAC": ether({ from: its.mac, to: gatewayMac }, 0x0800, good),
    "the gateway's MAC": ether({ from: gatewayMac, to: gatewayMac }, 0x0800, good),
    "ARP reply for the gateway": ether(
      { from: mine.mac, to: its.mac },
      0x0806,
      arp(2, { mac: mine.mac, ip: subnet.gateway }, { mac: its.mac, ip: victim.address }),
    ),
    "ARP request as another": ether(
      { from: mine.mac, to: broadcast },
      0x0806,
      arp(1, { mac: mine.mac, ip: victim.address }, { mac: broadcast, ip: subnet.gateway }),
    ),
    "gratuitous ARP for another": ether(
      { from: mine.mac, to: broadcast },
      0x0806,
      arp(2, { mac: mine.mac, ip: victim.address }, { mac: broadcast, ip: victim.address }),
    ),
    "ARP with another's MAC inside": ether(
      { from: mine.mac, to: broadcast },
      0x0806,
      arp(1, { mac: its.mac, ip: me.address }, { mac: broadcast, ip: subnet.gateway }),
    ),
    "ARP request for another VM": ether(
      { from: mine.mac, to: broadcast },
      0x0806,
      arp(1, { mac: mine.mac, ip: me.address }, { mac: broadcast, ip: victim.address }),
    ),
    "IPv4 of another": send4({ from: victim.address, to: anybody }),
    "IPv4 of nobody here": send4({ from: "203.0.113.9", to: anybody }),
    "IPv4 of loopback": send4({ from: "127.0.0.1", to: anybody }),
    "IPv4 of the gateway": send4({ from: subnet.gateway, to: anybody }),
    "IPv4 source route": ether(toHost, 0x0800, ip4(out, 17, udp(out, 40_000, 9), Buffer.from([131, 7, 4, 10, 0, 0, 1, 0]))),
    "IPv6 of another": send6({ from: its.address6, to: subnet.gateway6 }, 128, Buffer.alloc(4)),
    "IPv6 link-local of another": send6({ from: its.linkLocal, to: subnet.gateway6 }, 128, Buffer.alloc(4)),
    "neighbour advertisement for the gateway": send6(
      allNodes,
      136,
      Buffer.concat([Buffer.from([0xa0, 0, 0, 0]), ip6Bytes(subnet.gateway6), Buffer.from([2, 1]), macBytes(mine.mac)]),
    ),
    "router advertisement": send6(allNodes, 134, Buffer.from([64, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0])),
    "ICMPv6 redirect": send6(
      { from: mine.linkLocal, to: its.address6 },
      137,
      Buffer.concat([Buffer.alloc(4), ip6Bytes(mine.linkLocal), ip6Bytes(subnet.gateway6)]),
    ),
    "IPv6 routing header": ether(
      toHost,
      0x86dd,
      ip6(
        { from: mine.address6, to: subnet.gateway6 },
        43,
        Buffer.concat([Buffer.from([58, 2, 4, 0, 0, 0, 0, 0]), ip6Bytes(its.address6)]),
      ),
    ),
    "DHCP offer": ether(
      { from: mine.mac, to: broadcast },
      0x0800,
      ip4({ from: me.address, to: "255.255.255.255" }, 17, udp({ from: me.address, to: "255.255.255.255" }, 67, 68)),
    ),
    "DHCPv6 advertise": ether(toHost, 0x86dd, ip6(allNodes, 17, udp(allNodes, 547, 546))),
    "VLAN tag": ether(toHost, 0x8100, Buffer.concat([Buffer.from([0, 5, 8, 0]), good])),
    "two VLAN tags": ether(toHost, 0x88a8, Buffer.concat([Buffer.from([0, 5, 0x81, 0, 0, 6, 8, 0]), good])),
    LLDP: ether({ from: mine.mac, to: "01:80:c2:00:00:0e" }, 0x88cc, Buffer.from([2, 7, 4, 2, 0, 0, 0, 0, 1, 0, 0])),
    "STP BPDU": ether({ from: mine.mac, to: "01:80:c2:00:00:00" }, 38, Buffer.from([0x42, 0x42, 3, 0, 0, 0, 0, 0])),
    MPLS: ether(toHost, 0x8847, Buffer.from([0, 1, 1, 64])),
  };
}

/** Everything a VM may honestly send, but to another VM. */
function toNeighbour(me: VmPort, victim: VmPort): readonly Buffer[] {
  const [mine, its] = [namesOf(subnet, me), namesOf(subnet, victim)];
  const ends = { from: me.address, to: victim.address };
  const ends6 = { from: mine.address6, to: its.address6 };
  const links = { from: mine.linkLocal, to: its.linkLocal };
  const all = { from: me.address, to: "172.30.255.255" };
  return [its.mac, macOf(subnet.gateway)].flatMap((mac) => [
    ether({ from: mine.mac, to: mac }, 0x0800, ip4(ends, 1, echo4())),
    ether({ from: mine.mac, to: mac }, 0x0800, ip4(ends, 6, tcpSyn(ends, 40_000, 22))),
    ether({ from: mine.mac, to: mac }, 0x0800, ip4(ends, 17, udp(ends, 40_000, 53))),
    ether({ from: mine.mac, to: mac }, 0x86dd, ip6(ends6, 58, icmp6(ends6, 128, Buffer.alloc(4)))),
    ether({ from: mine.mac, to: mac }, 0x86dd, ip6(links, 58, icmp6(links, 128, Buffer.alloc(4)))),
    ether({ from: mine.mac, to: broadcast }, 0x0800, ip4(all, 17, udp(all, 40_000, 137))),
  ]);
}

/** Not what the host itself says now and then, to all its VMs or on a TAP. */
function isSent(frame: Buffer): boolean {
  const isToMany = ((frame[0] ?? 0) & 1) === 1;
  const from = frame.subarray(6, 12);
  if (from.equals(macBytes(macOf(subnet.gateway)))) return !isToMany;
  return ownAddresses.some((address) => from.equals(macBytes(macOf(address))));
}

async function listening(): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(8080, "0.0.0.0", resolve));
  return server;
}

const vm = (address: string, epoch = 1n): VmPort => ({ vmId: crypto.randomUUID(), epoch, address });
const noRules = new Map<string, undefined>();
const world = await makeWorld(subnet);
const result: Record<string, unknown> = {};
try {
  await output("nft", ["add table ip somebody; add chain ip somebody forward { type filter hook forward priority 0; policy accept; }"]);
  const before = await listing();
  const forwards = await readSysctl("net/ipv4/ip_forward");
  await layGround({ ...settings, stateDir: "/dev/null/state" }, noRules).catch(() => undefined); // what the host was like cannot be kept
  result["changedUnremembered"] = forwards !== (await readSysctl("net/ipv4/ip_forward")) || forwards !== "0";
  const [a, b] = [vm(ownAddresses[0]), vm(ownAddresses[1])];
  {
    await using network = await openBridgeNetwork(settings, noRules, log);
    result["mtu"] = network.mtu;
    await Promise.all([network.join(a), network.join(b), network.join(a)]);
    await using mine = await Wire.open("tap", namesOf(subnet, a).tap);
    await using victim = await Wire.open("tap", namesOf(subnet, b).tap);
    await using host = await Wire.open("sniff", "pwbr0");
    await using uplink = await Wire.open("sniff", "world0", world.within);
    await settle();
    const toGateway = { from: namesOf(subnet, a).mac, to: macOf(subnet.gateway) };
    const forget = (): void => [mine, victim, host, uplink].forEach((wire) => wire.seen.splice(0));

    const passed: string[] = [];
    for (const [name, frame] of Object.entries(spoofs(a, b))) {
      forget();
      mine.send(frame);
      await systemClock.sleep(60);
      if ([...host.seen, ...victim.seen].some(isSent)) passed.push(name);
    }
    result["spoofsSent"] = Object.keys(spoofs(a, b)).length;
    result["spoofsPassed"] = passed;

    forget();
    mine.send(...toNeighbour(a, b));
    await settle();
    result["neighbourSaw"] = victim.seen.filter(isSent).length;
    result["neighbourKnocks"] = toNeighbour(a, b).length;

    forget();
    mine.send(
      ether(
        { ...toGateway, to: broadcast },
        0x0806,
        arp(1, { mac: toGateway.from, ip: a.address }, { mac: broadcast, ip: subnet.gateway }),
      ),
    );
    const echoes = [subnet.gateway, anybody].map((to) => ether(toGateway, 0x0800, ip4({ from: a.address, to }, 1, echo4())));
    mine.send(...echoes);
    const [gateway6, own6] = [subnet.gateway6, namesOf(subnet, a).address6];
    const group = `ff02::1:ff${ip6Bytes(gateway6).subarray(13).toString("hex").replace(/^(..)/, "$1:")}`;
    const asks = { from: own6, to: group };
    const option = Buffer.concat([Buffer.from([1, 1]), macBytes(toGateway.from)]);
    mine.send(
      ether(
        { ...toGateway, to: "33:33:ff:1e:00:01" },
        0x86dd,
        ip6(asks, 58, icmp6(asks, 135, Buffer.concat([Buffer.alloc(4), ip6Bytes(gateway6), option]))),
      ),
    );
    await settle();
    result["arpAnswers"] = mine.seen.filter((frame) => frame.readUInt16BE(12) === 0x0806 && frame[21] === 2).length;
    result["neighbourAnswers"] = mine.seen.filter((frame) => frame.readUInt16BE(12) === 0x86dd && frame[54] === 136).length;
    result["echoesFrom"] = packets4(mine.seen)
      .flatMap(({ from, protocol, payload }) => (protocol === 1 && payload[0] === 0 ? [from] : []))
      .toSorted();
    result["seenAs"] = [
      ...new Set(packets4(uplink.seen).flatMap(({ from, protocol, payload }) => (protocol === 1 && payload[0] === 8 ? [from] : []))),
    ];

    const reached: Record<string, number> = {};
    forget();
    for (const to of [...closed, ...open, ...alsoOpen]) {
      const ends = { from: a.address, to };
      const payloads: readonly (readonly [number, Buffer])[] = [
        [1, echo4()],
        [6, tcpSyn(ends, 41_000, 443)],
        [17, udp(ends, 41_000, 443)],
      ];
      mine.send(...payloads.map(([protocol, payload]) => ether(toGateway, 0x0800, ip4(ends, protocol, payload))));
    }
    await settle();
    for (const { to, from, protocol, payload } of packets4(uplink.seen)) {
      const isOurs = protocol === 1 ? payload[0] === 8 : payload.readUInt16BE(2) === 443;
      if (from === hostAddress && isOurs) reached[to] = (reached[to] ?? 0) + 1;
    }
    result["closed"] = closed;
    result["open"] = [...open, ...alsoOpen];
    result["reached"] = reached;

    forget();
    const asked = { from: a.address, to: "10.255.0.53" };
    mine.send(
      ether(toGateway, 0x0800, ip4(asked, 17, udp(asked, 42_000, 53))),
      ether(toGateway, 0x0800, ip4(asked, 17, udp(asked, 42_000, 54))),
    );
    await settle();
    result["resolverPorts"] = packets4(uplink.seen).flatMap(({ to, payload }) => (to === asked.to ? [payload.readUInt16BE(2)] : []));

    const server = await listening();
    forget();
    for (const to of [subnet.gateway, hostAddress]) {
      const ends = { from: a.address, to };
      mine.send(ether(toGateway, 0x0800, ip4(ends, 6, tcpSyn(ends, 43_000, 8080))));
    }
    await settle();
    result["hostAnswers"] = packets4(mine.seen).filter(({ protocol }) => protocol === 6).length;
    server.close();

    forget();
    const knock = spawn("nsenter", [...world.within.slice(1), "timeout", "1", "bash", "-c", `echo > /dev/tcp/${a.address}/22`], {
      stdio: "ignore",
    });
    await new Promise((resolve) => knock.once("exit", resolve));
    result["fromOutside"] = packets4(mine.seen).filter(({ from }) => from === worldAddress).length;

    await output("nft", ["flush", "ruleset"]);
    await output("nft", ["add table ip somebody; add chain ip somebody forward { type filter hook forward priority 0; policy accept; }"]);
    const deadline = systemClock.monotonicMs() + 30_000;
    while (lackingRules(await readRuleCounts()).length > 0 && systemClock.monotonicMs() < deadline) await systemClock.sleep(200);
    result["missingAfterFlush"] = lackingRules(await readRuleCounts());
    result["knownAfterFlush"] = (await readAddresses4()).length;
  }
  {
    // The agent's next life: b is gone from its journals.
    await using network = await openBridgeNetwork(settings, new Map([[a.vmId, undefined]]), log);
    const stray = namesOf(subnet, b).tap;
    const there = async (tap: string): Promise<boolean> => (await readLinks()).some(({ ifname }) => ifname === tap);
    result["keptOverRestart"] = await there(stray);
    ip("tuntap", "add", "dev", "pw00000000000f", "mode", "tap"); // the agent died between its making and its naming
    await network.keepOnly(new Set([a.vmId]));
    result["straysLeft"] = [await there(stray), await there("pw00000000000f")];
    result["knownAfterRestart"] = await readAddresses4();
    result["ownTap"] = `${namesOf(subnet, a).tap} ${a.address}`;
    await network.join({ ...a, epoch: 2n, address: "172.30.0.9" });
    result["knownAfterMove"] = await readAddresses4();
    result["movedTap"] = `${namesOf(subnet, { ...a, epoch: 2n }).tap} 172.30.0.9`;
    const many = Array.from({ length: 100 }, (_, at) => vm(`172.30.1.${at + 1}`));
    const startedMs = systemClock.monotonicMs();
    await Promise.all(many.map((one) => network.join(one)));
    result["joinOf100Ms"] = systemClock.monotonicMs() - startedMs;
    await Promise.all([...many, a].map(({ vmId }) => network.leave(vmId)));
    result["leftBehind"] = [await readAddresses4(), ip("neigh", "show", "dev", "pwbr0").trim()].flat().filter((line) => line !== "");
  }
  result["changesOfSecondSetup"] = (await layGround(settings, noRules)).changes;
  await clearGround(stateDir);
  const after = await listing();
  result["isAsBefore"] = after === before || { before, after };
  result["changesOfSecondReset"] = await clearGround(stateDir);
} finally {
  world.end();
}
process.stdout.write(`${JSON.stringify(result)}\n`);
