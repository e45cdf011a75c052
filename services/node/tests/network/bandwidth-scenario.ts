// A VM with a limited bandwidth, and a neighbour with none, in a network namespace of their own; the world is in another one. Prints what was seen
// as a line of JSON. Run by bandwidth.test.ts: `unshare -n node bandwidth-scenario.ts DIR`.
import { execFileSync } from "node:child_process";
import { silentLog, systemClock } from "@pitwall/runtime";
import { macOf, namesOf, parseSubnet, type VmPort } from "../../src/network/address-plan.ts";
import { openBridgeNetwork } from "../../src/network/bridge-network.ts";
import { clearGround, type NetworkSettings } from "../../src/network/ground.ts";
import { ether, ip4, packets4, udp, Wire } from "./frames.ts";
import { anybody, hostAddress, makeWorld } from "./world.ts";

const [stateDir = ""] = process.argv.slice(2);
const subnet = parseSubnet("172.30.0.0/16");
const settings: NetworkSettings = { stateDir, subnet, resolvers: [], allowed: [], denied: [] };
const sent = 600;
const data = Buffer.alloc(1_200, "x");
const comeLimitMs = 20_000;
const vm = (address: string, more: Partial<VmPort> = {}): VmPort => ({ vmId: crypto.randomUUID(), epoch: 1n, address, ...more });

const world = await makeWorld(subnet);
const result: Record<string, unknown> = {};
try {
  await using uplink = await Wire.open("sniff", "world0", world.within);
  const slow = { bandwidthInBps: 64_000n, bandwidthOutBps: 64_000n };
  const limited = vm("172.30.0.2", slow);
  const free = vm("172.30.0.3");

  /** How many come of what is sent, and within how long: until no more do. */
  async function passing(wire: Wire, from: string, send: () => void): Promise<{ came: number; inS: number }> {
    wire.seen.splice(0);
    const startedMs = systemClock.monotonicMs();
    send();
    const count = (): number => packets4(wire.seen).filter((packet) => packet.from === from && packet.payload.length > 1_000).length;
    let [before, quiet] = [-1, 0];
    while (count() < sent && quiet < 5 && systemClock.monotonicMs() - startedMs < comeLimitMs) {
      quiet = count() === before && before > 0 ? quiet + 1 : 0;
      before = count();
      await systemClock.sleep(200);
    }
    return { came: count(), inS: (systemClock.monotonicMs() - startedMs) / 1000 };
  }
  const out = (wire: Wire, port: VmPort): Promise<{ came: number; inS: number }> => {
    const ends = { from: port.address, to: anybody };
    const frame = ether({ from: namesOf(subnet, port).mac, to: macOf(subnet.gateway) }, 0x0800, ip4(ends, 17, udp(ends, 9001, 9000, data)));
    return passing(uplink, hostAddress, () => wire.send(...Array.from({ length: sent }, () => frame)));
  };
  /** Answers to what the VM has sent. */
  const back = (wire: Wire): Promise<{ came: number; inS: number }> =>
    passing(wire, anybody, () => {
      const socket = `IO::Socket::INET->new(Proto=>"udp",LocalAddr=>"${anybody}",LocalPort=>9000,PeerAddr=>"${hostAddress}",PeerPort=>9001)`;
      const perl = `use IO::Socket::INET; my $s=${socket}; for (1..${sent}) { $s->send("x" x ${data.length}); select(undef,undef,undef,0.001) }`;
      execFileSync("nsenter", [...world.within.slice(1), "perl", "-e", perl]);
    });

  {
    await using network = await openBridgeNetwork(settings, new Map(), silentLog);
    await Promise.all([limited, free].map((port) => network.join(port)));
    await using fromLimited = await Wire.open("tap", namesOf(subnet, limited).tap);
    result["out"] = await out(fromLimited, limited);
    result["back"] = await back(fromLimited);
    await network.heed(limited.vmId, {});
    result["outFreed"] = await out(fromLimited, limited);
    result["backFreed"] = await back(fromLimited);
    await network.heed(limited.vmId, slow);
    result["heeds"] = [network.heeds(limited.vmId, slow), network.heeds(limited.vmId, {})];
    result["outAgain"] = await out(fromLimited, limited);
  }
  {
    // The agent's next life.
    await using network = await openBridgeNetwork(
      settings,
      new Map([
        [limited.vmId, slow],
        [free.vmId, undefined],
      ] as const),
      silentLog,
    );
    await using fromLimited = await Wire.open("tap", namesOf(subnet, limited).tap);
    result["outInNextLife"] = await out(fromLimited, limited);
    await network.keepOnly(new Set([free.vmId]));
    await using fromFree = await Wire.open("tap", namesOf(subnet, free).tap);
    result["outOfNeighbour"] = await out(fromFree, free);
    const rest = execFileSync("nft", ["list", "ruleset"], { encoding: "utf8" });
    result["left"] = rest.split("\n").filter((line) => /pace_(in|out)_pw/.test(line));
    await network.keepOnly(new Set());
  }
  await clearGround(stateDir);
} finally {
  world.end();
}
process.stdout.write(`${JSON.stringify(result)}\n`);
