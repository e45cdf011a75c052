// The network of a world: a bridge with the controllers' and the gateway's addresses, and a namespace with an address for each node.
// Whatever is broken is broken where the victim is, so that both ends of a way can be told apart.
import { command } from "@pitwall/quickstart";
import { databasePort } from "./postgres.ts";

export const apiPort = 7000;
export const linkPort = 7001;
export const sshPort = 2222;
export const gatewayAddress = "10.77.0.21";
export const controllerAddress = (controller: number): string => `10.77.0.${11 + controller}`;
/** Where a controller finds the database: an address of its own, so that its way there alone can be broken. */
export const databaseAddress = (controller: number): string => `127.0.1.${1 + controller}`;
export const namespaceOf = (node: number): string => `n${node}`;

const nodeAddress = (node: number): string => `10.77.0.${101 + node}`;
const veth = (node: number): string => `v${node}`;
const slow = ["rate", "256kbit", "burst", "8kb", "latency", "800ms"];
const lossProbability = "0.3";

/** Undone once. */
export type Undo = () => Promise<void>;

export async function makeNetwork(nodes: number, controllers: number): Promise<void> {
  await ip("link add br0 type bridge");
  await ip("link set br0 up");
  const own = [...Array.from({ length: controllers }, (_, index) => controllerAddress(index)), gatewayAddress];
  for (const address of own) await ip(`addr add ${address}/24 dev br0`);
  for (let node = 0; node < nodes; node++) {
    const name = namespaceOf(node);
    await ip(`netns add ${name}`);
    await ip(`link add ${veth(node)} type veth peer name eth0 netns ${name}`);
    await ip(`link set ${veth(node)} master br0 up`);
    await ip(`-n ${name} addr add ${nodeAddress(node)}/24 dev eth0`);
    await ip(`-n ${name} link set eth0 up`);
    await ip(`-n ${name} link set lo up`);
  }
}

/** `up` is from the node. An undefined peer: everybody. */
export function block(node: number, peer: string | undefined, ways: readonly ("up" | "down")[]): Promise<Undo> {
  const rules = ways.map((way) =>
    way === "up" ? ["OUTPUT", ...(peer ? ["-d", peer] : []), "-o", "eth0"] : ["INPUT", ...(peer ? ["-s", peer] : []), "-i", "eth0"],
  );
  return apply(
    node,
    rules.map((rule) => [...rule, "-j", "DROP"]),
  );
}

/** Connections of the node are reset while it lasts. */
export function reset(node: number, peer: string | undefined): Promise<Undo> {
  return apply(node, [["OUTPUT", "-p", "tcp", ...(peer ? ["-d", peer] : []), "-o", "eth0", "-j", "REJECT", "--reject-with", "tcp-reset"]]);
}

/** Packets are lost, both ways. */
export function lose(node: number): Promise<Undo> {
  const rarely = ["-m", "statistic", "--mode", "random", "--probability", lossProbability, "-j", "DROP"];
  return apply(node, [
    ["INPUT", "-i", "eth0", ...rarely],
    ["OUTPUT", "-o", "eth0", ...rarely],
  ]);
}

/** How many incidents want each node's line slow: they may overlap. */
const throttles = new Map<number, number>();

/** A line of 256 kbit/s with a long queue. */
export async function throttle(node: number): Promise<Undo> {
  const change = async (by: 1 | -1): Promise<void> => {
    const before = throttles.get(node) ?? 0;
    throttles.set(node, before + by);
    const qdisc = ["dev", veth(node), "root"];
    if (before === 0) await command("tc", ["qdisc", "add", ...qdisc, "tbf", ...slow]);
    else if (before + by === 0) await command("tc", ["qdisc", "del", ...qdisc]);
  };
  await change(1);
  return () => change(-1);
}

export async function unplug(node: number): Promise<Undo> {
  await ip(`link set ${veth(node)} down`);
  return () => ip(`link set ${veth(node)} up`);
}

/** Between a controller and its database. */
export function blockDatabase(controller: number): Promise<Undo> {
  return blockLocal(databaseAddress(controller), [databasePort]);
}

/** Between a controller and the gateway, and the other controllers: its nodes still reach it. */
export function blockNeighbours(controller: number): Promise<Undo> {
  return blockLocal(controllerAddress(controller), [apiPort, linkPort]);
}

function blockLocal(address: string, ports: readonly number[]): Promise<Undo> {
  const list = ports.join(",");
  return apply(undefined, [
    ["INPUT", "-i", "lo", "-p", "tcp", "-d", address, "-m", "multiport", "--dports", list, "-j", "DROP"],
    ["INPUT", "-i", "lo", "-p", "tcp", "-s", address, "-m", "multiport", "--sports", list, "-j", "DROP"],
  ]);
}

/** In a node's namespace, or the world's own. */
async function apply(node: number | undefined, rules: readonly (readonly string[])[]): Promise<Undo> {
  for (const rule of rules) await iptables(node, ["-A", ...rule]);
  return async () => {
    for (const rule of rules) await iptables(node, ["-D", ...rule]);
  };
}

async function iptables(node: number | undefined, args: readonly string[]): Promise<void> {
  const line = ["iptables", "-w", ...args];
  const [name = "", ...rest] = node === undefined ? line : ["ip", "netns", "exec", namespaceOf(node), ...line];
  await command(name, rest);
}

async function ip(line: string): Promise<void> {
  await command("ip", line.split(" "));
}
