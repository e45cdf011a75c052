// A whole Pitwall whose node has a network of its own, in a network namespace; prints what was seen as a line of JSON. Run by network.test.ts.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { EgressVerdict, Phase } from "@pitwall/sdk";
import { run } from "../support/run.ts";
import { startTestStack } from "../support/stack.ts";

const here = (command: string): string[] =>
  execFileSync("sh", ["-c", command], { encoding: "utf8" })
    .split("\n")
    .filter((line) => line !== "");
/** `pitwall` */
const program = join(import.meta.dirname, "../../node_modules/.bin/pitwall");
/** Interfaces, rules and neighbours that are a VM's. */
const traces = (): string[] => [
  ...here("ip -o link show | grep -o 'pw[0-9a-f]\\{12\\}' | sort -u || true"),
  ...here("nft list set bridge pitwall addresses4 | grep -o '172[0-9.]*' || true"),
  ...here("ip neigh show dev pwbr0"),
];

/** Its MAC, by an ARP request of now. */
const askGateway =
  "ip neigh flush dev eth0; for try in 1 2 3 4 5; do echo > /dev/udp/172.30.0.1/9; sleep 1; grep -o 02:00:ac:1e:00:01 /proc/net/arp && break; done";

execFileSync("ip", ["link", "set", "lo", "up"]);
here("ip link add away type veth peer name there && ip link set away up && ip link set there up && ip route add default dev away"); // where nobody is
const result: Record<string, unknown> = {};
{
  await using pitwall = await startTestStack({ env: { node: { PITWALL_NETWORK: "bridge", PITWALL_DNS: "198.51.100.53" } } });
  const { vms } = pitwall.stack.client();
  await vms.create({ name: "net", spec: { image: pitwall.image, args: ["sleep", "infinity"] } });
  const vm = await vms.wait("net");
  const inside = async (command: string): Promise<string> => (await run([...pitwall.ssh.commandFor("net"), command])).stdout.trim();
  result["addresses"] = vm.addresses;
  result["resolvers"] = await inside("cat /etc/resolv.conf");
  result["mac"] = await inside("cat /sys/class/net/eth0/address");
  result["mtu"] = await inside("cat /sys/class/net/eth0/mtu");
  result["routes"] = await inside("ip route show default; ip -6 route show default");
  result["gateway"] = await inside(askGateway);
  await vms.update("net", { egress: { rules: [], otherwise: EgressVerdict.EGRESS_VERDICT_DENY } });
  await vms.waitUntil("net", ({ observedGeneration, generation }) => observedGeneration === generation);
  await inside("echo > /dev/udp/203.0.113.7/53; echo > /dev/udp/10.1.2.3/9");
  const signedIn = { PITWALL_ENDPOINT: pitwall.stack.endpoint, PITWALL_TOKEN: await pitwall.stack.token(), NO_COLOR: "1" };
  const cli = async (...words: string[]): Promise<string> => (await run([program, ...words], { env: signedIn })).stdout;
  const denied = (await cli("net", "denied", "net")).trim().split("\n");
  result["denied"] = denied.map((line) => line.trim().split(/ {2,}/).toSpliced(3, 1).join(" ")).toSorted();
  await cli("update", "net", "--egress", "none");
  result["isFree"] = (await vms.get("net")).spec?.egress === undefined;
  const awake = traces();
  await vms.suspend("net");
  await vms.wait("net", { phases: [Phase.PHASE_SUSPENDED] });
  result["asleep"] = traces();
  await vms.start("net");
  await vms.wait("net");
  result["isSameAwake"] = JSON.stringify(traces()) === JSON.stringify(awake) || { awake, now: traces() };
  result["gatewayAwake"] = await inside(askGateway);
  const gone = await vms.get("net");
  await vms.delete("net");
  await vms.waitUntilGone(gone);
  result["left"] = traces();
}
process.stdout.write(`${JSON.stringify(result)}\n`);
