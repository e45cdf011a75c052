// What all VMs of a node share on its network: the bridge, the host's settings, the firewall. Making it twice changes nothing.
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { PitwallError, writeFileAtomic } from "@pitwall/runtime";
import { z } from "zod";
import { bridgeName, isTapName, type OwnRules, type VmPort } from "./address-plan.ts";
import { applyRules, output, readLinks, readRoutes, runLines, type HostLink } from "./commands.ts";
import { readDenied } from "./denied.ts";
import { denyAll, heedable } from "./egress.ts";
import { bridgeLines, fromTapAlias, noBridgeLines } from "./links.ts";
import { wholeScript, type RuleSet } from "./rules.ts";
import { bridgeSysctls, hostSysctls, keepsRouter, otherSysctls, setSysctls, type Sysctl } from "./sysctls.ts";

/** Smaller, IPv6 would not work. */
const leastMtu = 1280;
const usualMtu = 1500;

/** What an operator chooses. */
export interface NetworkSettings extends RuleSet {
  /** Where it is kept what the host was like before. */
  readonly stateDir: string;
}

export interface Ground {
  readonly mtu: number;
  /** What was otherwise, in words. */
  readonly changes: readonly string[];
}

const kept = z.object({ before: z.array(z.object({ name: z.string(), value: z.string() })) });

/** What VMs have as rules of their own, by VM; one that is not in it is nobody's. */
export type VmRules = ReadonlyMap<string, OwnRules | undefined>;

/**
 * The firewall stands before anything can pass through it, with the rules of VMs that run. Throws `unsupported` for a host that cannot have
 * such a network.
 */
export async function layGround(settings: NetworkSettings, vmRules: VmRules): Promise<Ground> {
  const { subnet, stateDir } = settings;
  const uplinks = await uplinkNames();
  const links = await readLinks();
  const mtu = smallestMtu(links.filter(({ ifname }) => uplinks.includes(ifname)));
  const changes: string[] = [];
  await applyRules(wholeScript(settings, portsOf(links, vmRules), await readDenied()));
  const bridge = links.find(({ ifname }) => ifname === bridgeName);
  if (bridge && bridge.linkinfo?.info_kind !== "bridge") {
    throw new PitwallError("state", `${bridgeName} is there and is no bridge: remove it`, { reason: "BRIDGE_NAME_TAKEN" });
  }
  const complaint = await runLines("ip", bridge ? bridgeLines(subnet, mtu).slice(1) : bridgeLines(subnet, mtu));
  const made = (await readLinks()).find(({ ifname }) => ifname === bridgeName);
  if (!made?.flags.includes("UP")) {
    throw new PitwallError("unsupported", `the bridge could not be made: ${complaint}`, { reason: "BRIDGE_NOT_MADE" });
  }
  if (!bridge) changes.push(`${bridgeName}: made, with ${subnet.gateway} and ${subnet.gateway6}`);
  else if (bridge.mtu !== mtu) changes.push(`${bridgeName}: MTU ${bridge.mtu} to ${mtu}`);
  await setSysctls(bridgeSysctls);
  const wanted = [...(await listenToRouters()).map(keepsRouter), ...hostSysctls];
  const before = await otherSysctls(wanted);
  await remember(stateDir, before); // or a reset after a crash would not know what to give back
  await setSysctls(wanted);
  for (const { name, value } of before) changes.push(`${name.replaceAll("/", ".")}: was ${value}`);
  return { mtu, changes };
}

/** Takes away all of it, and gives the host its settings back. VMs must be gone. Throws `state` while there are TAPs with something in them. */
export async function clearGround(stateDir: string): Promise<readonly string[]> {
  const links = await readLinks();
  const taps = links.filter(({ ifname, master }) => isTapName(ifname) && master === bridgeName);
  const busy = taps.filter(({ flags }) => flags.includes("LOWER_UP"));
  if (busy.length > 0) {
    throw new PitwallError("state", `${busy.length} VMs are running: stop them, and the node's agent, first`, { reason: "VMS_RUNNING" });
  }
  const changes: string[] = [];
  await runLines("ip", [...taps.map(({ ifname }) => `link delete dev ${ifname}`), ...noBridgeLines]);
  if (links.some(({ ifname }) => ifname === bridgeName)) changes.push(`${bridgeName}: removed`);
  const tables = await output("nft", ["list", "tables"]);
  const ours = tables.split("\n").filter((line) => /^table (inet|bridge) pitwall$/.test(line));
  if (ours.length > 0) {
    await applyRules(ours.map((table) => `delete ${table}`).join("\n"));
    changes.push("nftables: tables removed");
  }
  const before = await remembered(stateDir);
  await setSysctls(before);
  for (const { name, value } of before) changes.push(`${name.replaceAll("/", ".")}: ${value} again`);
  await rm(keptIn(stateDir), { force: true });
  return changes;
}

/** Those whose TAPs are there, by what is written on them. Of what is nobody's nothing passes. */
export function portsOf(links: readonly HostLink[], vmRules: VmRules): readonly VmPort[] {
  return links
    .flatMap(({ ifname, ifalias }) => (isTapName(ifname) && ifalias !== undefined ? (fromTapAlias(ifalias) ?? []) : []))
    .map((port) => ({ ...port, ...(vmRules.has(port.vmId) ? heedable(vmRules.get(port.vmId)) : { egress: denyAll }) }));
}

/** Through which the host reaches the rest of the world. */
async function uplinkNames(): Promise<readonly string[]> {
  const routes = [...(await readRoutes(4)), ...(await readRoutes(6))];
  return [...new Set(routes.flatMap(({ dst, dev }) => (dst === "default" && dev !== undefined ? [dev] : [])))];
}

function smallestMtu(uplinks: readonly HostLink[]): number {
  const smallest = Math.min(...uplinks.map(({ mtu }) => mtu));
  return Number.isFinite(smallest) ? Math.max(leastMtu, Math.min(smallest, 9000)) : usualMtu;
}

/** Interfaces whose default route of IPv6 a router has announced. */
async function listenToRouters(): Promise<readonly string[]> {
  const routes = await readRoutes(6);
  return routes.flatMap(({ dst, dev, protocol }) => (dst === "default" && protocol === "ra" && dev !== undefined ? [dev] : []));
}

const keptIn = (stateDir: string): string => join(stateDir, "network.json");

/** What was remembered first counts: a second run sees its own doing. */
async function remember(stateDir: string, before: readonly Sysctl[]): Promise<void> {
  const known = await remembered(stateDir);
  const fresh = before.filter(({ name }) => !known.some((one) => one.name === name));
  if (fresh.length === 0) return;
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  await writeFileAtomic(keptIn(stateDir), JSON.stringify({ before: [...known, ...fresh] } satisfies z.input<typeof kept>), 0o600);
}

async function remembered(stateDir: string): Promise<readonly Sysctl[]> {
  const text = await readFile(keptIn(stateDir), "utf8").catch(() => undefined);
  return text === undefined ? [] : kept.parse(JSON.parse(text)).before;
}
