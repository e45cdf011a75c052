// VMs with rules for what they send, in a network namespace of their own; the world is in another one. Prints what was seen as a line of JSON.
// Run by egress.test.ts: `unshare -n node egress-scenario.ts DIR`.
import { execFileSync } from "node:child_process";
import {
  DeniedFlow_By as By,
  EgressProtocol,
  EgressRule,
  EgressVerdict,
  type DeniedFlow,
  type Egress,
} from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError, silentLog, systemClock } from "@pitwall/runtime";
import { macOf, namesOf, parseSubnet, type VmPort } from "../../src/network/address-plan.ts";
import { openBridgeNetwork } from "../../src/network/bridge-network.ts";
import { output, readRuleCounts } from "../../src/network/commands.ts";
import { denyAll } from "../../src/network/egress.ts";
import { clearGround, layGround, type NetworkSettings } from "../../src/network/ground.ts";
import { echo4, ether, ip4, packets4, tcpSyn, udp, Wire, type Packet } from "./frames.ts";
import { anybody, hostAddress, makeWorld } from "./world.ts";

const [stateDir = ""] = process.argv.slice(2);
const subnet = parseSubnet("172.30.0.0/16");
const settings: NetworkSettings = { stateDir, subnet, resolvers: [], allowed: ["10.77.0.0/16"], denied: [] };
const log = silentLog;
/** Long enough for a frame to come, also where others work. */
const settle = (): Promise<void> => systemClock.sleep(400);
const { EGRESS_VERDICT_ALLOW: allow, EGRESS_VERDICT_DENY: deny } = EgressVerdict;
const { EGRESS_PROTOCOL_TCP: tcp, EGRESS_PROTOCOL_UDP: udpOnly, EGRESS_PROTOCOL_ICMP: icmp } = EgressProtocol;
const rulesOf = (otherwise: EgressVerdict, ...rules: Partial<EgressRule>[]): Egress => ({
  rules: rules.map((rule) => EgressRule.fromPartial(rule)),
  otherwise,
});
const vm = (address: string, egress?: Egress): VmPort => ({ vmId: crypto.randomUUID(), epoch: 1n, address, egress });
const others = (): string => execFileSync("nft", ["list", "table", "ip", "somebody"], { encoding: "utf8" });

const world = await makeWorld(subnet);
const result: Record<string, unknown> = {};

const portIn = ({ protocol, payload }: Packet): number => (protocol === 1 ? 0 : payload.readUInt16BE(2));
const words: Readonly<Record<number, string>> = { 1: "icmp", 6: "tcp", 17: "udp" };
const frame = (port: VmPort, to: string, protocol: number, payload: Buffer): Buffer =>
  ether({ from: namesOf(subnet, port).mac, to: macOf(subnet.gateway) }, 0x0800, ip4({ from: port.address, to }, protocol, payload));
const udpTo = (port: VmPort, to: string, toPort: number, fromPort = 40_000): Buffer =>
  frame(port, to, 17, udp({ from: port.address, to }, fromPort, toPort));
const tcpTo = (port: VmPort, to: string, toPort: number): Buffer =>
  frame(port, to, 6, tcpSyn({ from: port.address, to }, 41_000 + toPort, toPort));

try {
  await output("nft", ["add table ip somebody; add chain ip somebody forward { type filter hook forward priority 0; policy accept; }"]);
  const before = others();
  await using uplink = await Wire.open("sniff", "world0", world.within);
  /** Ports of what has come to the world since `forget`. */
  const came = (): Packet[] => packets4(uplink.seen).filter(({ from }) => from === hostAddress);
  const forget = (): void => void uplink.seen.splice(0);
  async function passing(wire: Wire, ...frames: readonly Buffer[]): Promise<Packet[]> {
    forget();
    wire.send(...frames);
    await settle();
    return came();
  }
  const probes = (port: VmPort): Buffer[] => [
    frame(port, anybody, 1, echo4()),
    ...[80, 443].map((to) => tcpTo(port, anybody, to)),
    ...[443, 5000].map((to) => udpTo(port, anybody, to)),
  ];
  const named = (packets: readonly Packet[]): string[] =>
    packets.map((packet) => `${words[packet.protocol]} ${portIn(packet)}`).toSorted((a, b) => a.localeCompare(b, "en", { numeric: true }));

  const free = vm("172.30.0.2");
  const web = vm("172.30.0.3", rulesOf(deny, { verdict: allow, protocol: tcp, firstPort: 443 }, { verdict: allow, protocol: icmp }));
  {
    await using network = await openBridgeNetwork(settings, new Map(), log);
    await Promise.all([free, web].map((port) => network.join(port)));
    await using fromFree = await Wire.open("tap", namesOf(subnet, free).tap);
    await using fromWeb = await Wire.open("tap", namesOf(subnet, web).tap);
    await settle();
    result["free"] = named(await passing(fromFree, ...probes(free)));
    result["ruled"] = named(await passing(fromWeb, ...probes(web)));

    // The first rule that fits counts; ranges; a network of everybody's that the node allows.
    const ordered = rulesOf(
      deny,
      { verdict: deny, network: "203.0.113.0/24", firstPort: 7001 },
      { verdict: allow, network: "203.0.113.0/24", protocol: udpOnly, firstPort: 7000, lastPort: 7002 },
      { verdict: allow, network: "10.0.0.0/8" },
    );
    await network.heed(web.vmId, { egress: ordered });
    const sent = [...[6999, 7001, 7002, 7010].map((to) => udpTo(web, anybody, to)), udpTo(web, "10.77.0.1", 7003)];
    result["byNetwork"] = (await passing(fromWeb, ...sent)).map(portIn).toSorted((one, other) => one - other);
    await systemClock.sleep(1_500); // the kernel tells whole seconds
    result["refusedByNode"] = (await passing(fromWeb, udpTo(web, "10.78.0.1", 7004))).map(portIn);

    const { flows, unlistedPackets } = await network.denied(web.vmId);
    const wordsOf = ({ destination, protocol, port, packets, by }: DeniedFlow): string =>
      `${destination} ${words[protocol]} ${port} ${packets} ${by === By.BY_NODE ? "node" : "rules"}`;
    result["denied"] = flows.map(wordsOf);
    const ageMs = systemClock.wallMs() - (flows.at(-1)?.lastTime?.getTime() ?? 0);
    result["isLastSeenLast"] = flows[0]?.destination === "10.78.0.1" && ageMs < 60_000;
    // More than are remembered of one VM, and a neighbour whose list is its own all the same.
    fromWeb.send(...Array.from({ length: 300 }, (_, at) => udpTo(web, "10.78.0.2", 20_000 + at)));
    await settle();
    fromFree.send(udpTo(free, "10.78.0.3", 20_000));
    await settle();
    const [many, few] = [await network.denied(web.vmId), await network.denied(free.vmId)];
    result["many"] = { listed: many.flows.length, rest: Number(many.unlistedPackets + unlistedPackets), few: few.flows.map(wordsOf) };

    // A flow that is open is cut off in both directions, and goes on when its rule comes back.
    const talk = async (): Promise<{ out: boolean; back: boolean }> => {
      fromFree.seen.splice(0);
      const out = (await passing(fromFree, udpTo(free, anybody, 9000, 9001))).length > 0;
      const perl = `use IO::Socket::INET; IO::Socket::INET->new(Proto=>"udp",LocalAddr=>"${anybody}",LocalPort=>9000,PeerAddr=>"${hostAddress}",PeerPort=>9001)->send("x")`;
      execFileSync("nsenter", [...world.within.slice(1), "perl", "-e", perl]);
      await settle();
      return { out, back: packets4(fromFree.seen).some(({ from, protocol }) => from === anybody && protocol === 17) };
    };
    const first = await talk();
    await network.heed(free.vmId, { egress: rulesOf(deny, { verdict: allow, protocol: tcp }) });
    const denied = await talk();
    await network.heed(free.vmId, {});
    const again = await talk();
    result["cutOff"] = { before: first.out && first.back, out: denied.out, back: denied.back, again: again.out && again.back };

    // From its first moment on.
    const born = vm("172.30.0.4", denyAll);
    forget();
    const joining = network.join(born);
    const knocking = new AbortController();
    const knocks = (async () => {
      while (!knocking.signal.aborted) {
        await Wire.open("tap", namesOf(subnet, born).tap)
          .then(async (wire) => {
            wire.send(udpTo(born, anybody, 7050));
            await wire[Symbol.asyncDispose]();
          })
          .catch(() => undefined);
      }
    })();
    await joining;
    await settle();
    knocking.abort();
    await knocks;
    result["upBeforeRules"] = came().filter((packet) => portIn(packet) === 7050).length;

    // From one set of rules to another, neither of which lets it: never.
    forget();
    let count = 0;
    const isChanging = (async () => {
      for (let at = 0; at < 20; at++)
        await network.heed(web.vmId, { egress: rulesOf(deny, { verdict: allow, network: "198.18.0.0/15", firstPort: at + 1 }) });
      return 20;
    })();
    const changing = new AbortController();
    void isChanging.then(() => changing.abort());
    while (!changing.signal.aborted) {
      fromWeb.send(udpTo(web, anybody, 7060), udpTo(web, anybody, 7061));
      count += 2;
      await systemClock.sleep(2);
    }
    await settle();
    result["changedWhile"] = { changes: await isChanging, sent: count, passed: came().length };

    // A rule of a newer controller's: nothing passes rather than anything.
    await network.heed(free.vmId, { egress: rulesOf(allow, { verdict: allow, protocol: 9 as EgressRule["protocol"] }) });
    result["unknownRule"] = (await passing(fromFree, ...probes(free))).map(portIn);
    await network.heed(free.vmId, {});
  }

  // The agent's next life, of which the journals say what VMs may send; a stray's rules nobody knows.
  {
    await using fromWeb = await Wire.open("tap", namesOf(subnet, web).tap);
    await using fromFree = await Wire.open("tap", namesOf(subnet, free).tap);
    const kept = rulesOf(deny, { verdict: allow, firstPort: 7102 });
    await layGround(settings, new Map([[web.vmId, { egress: denyAll }]])); // `pitwall node setup`, while no agent runs
    const changesWhileDown = (await passing(fromWeb, udpTo(web, anybody, 7102))).map(portIn);
    await using network = await openBridgeNetwork(settings, new Map([[web.vmId, { egress: kept }]]), log);
    result["keptOverRestart"] = (await network.denied(web.vmId)).flows.some(({ destination }) => destination === "10.78.0.1");
    const ruled = (await passing(fromWeb, udpTo(web, anybody, 7101), udpTo(web, anybody, 7102))).map(portIn);
    const stray = (await passing(fromFree, udpTo(free, anybody, 7103))).map(portIn);
    result["restarted"] = { ruled, stray, changesWhileDown };

    // Somebody flushes the chain of a VM, which then is without an end; a look makes it anew.
    const chain = `out_${namesOf(subnet, web).tap}`;
    await output("nft", ["flush", "chain", "inet", "pitwall", chain]);
    const counts = async (): Promise<number> => (await readRuleCounts()).get(`inet ${chain}`) ?? -1;
    const wasFlushed = (await counts()) === 0;
    const deadline = systemClock.monotonicMs() + 30_000;
    while ((await counts()) === 0 && systemClock.monotonicMs() < deadline) await systemClock.sleep(200);
    result["mended"] = { wasFlushed, flushedChain: (await passing(fromWeb, udpTo(web, anybody, 7101))).map(portIn) };

    result["addressTaken"] = await network.join(vm(web.address)).then(
      () => "",
      (error: unknown) => (error instanceof PitwallError ? error.reason : String(error)),
    );
    await network.keepOnly(new Set());
    const rest = execFileSync("nft", ["list", "ruleset"], { encoding: "utf8" });
    const isCount = (line: string): boolean => /ct count|limit rate/.test(line); // they end by themselves
    result["left"] = rest.split("\n").filter((line) => /172\.30\.0\.[234]|(out|back)_pw/.test(line) && !isCount(line));
  }
  await clearGround(stateDir);
  result["isOthersUntouched"] = others() === before;
} finally {
  world.end();
}
process.stdout.write(`${JSON.stringify(result)}\n`);
