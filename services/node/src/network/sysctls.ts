// The kernel's settings that the bridge needs: what is set, and what the host had before.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { bridgeName } from "./address-plan.ts";

/** A setting below /proc/sys, and what it should be. */
export interface Sysctl {
  readonly name: string;
  readonly value: string;
}

const ofBridge = (family: "ipv4" | "ipv6", values: Readonly<Record<string, string>>): readonly Sysctl[] =>
  Object.entries(values).map(([key, value]) => ({ name: `net/${family}/conf/${bridgeName}/${key}`, value }));

/** They go with the bridge. It answers for its own address alone, believes no router, and sends nothing back by another way than it came. */
export const bridgeSysctls: readonly Sysctl[] = [
  ...ofBridge("ipv4", { rp_filter: "1", proxy_arp: "0", arp_ignore: "1", accept_redirects: "0", send_redirects: "0" }),
  ...ofBridge("ipv4", { accept_source_route: "0", route_localnet: "0", forwarding: "1" }),
  ...ofBridge("ipv6", { accept_ra: "0", accept_redirects: "0", accept_source_route: "0", proxy_ndp: "0" }),
];

/** They are the whole host's: without them nothing is routed. */
export const hostSysctls: readonly Sysctl[] = [
  { name: "net/ipv4/ip_forward", value: "1" },
  { name: "net/ipv6/conf/all/forwarding", value: "1" },
];

/** A host that forwards IPv6 no longer listens to its own router, unless told so: it would lose its default route. */
export function keepsRouter(uplink: string): Sysctl {
  return { name: `net/ipv6/conf/${uplink}/accept_ra`, value: "2" };
}

/** Undefined when the kernel has no such setting. */
export async function readSysctl(name: string): Promise<string | undefined> {
  const text = await readFile(join("/proc/sys", name), "utf8").catch(() => undefined);
  return text?.trim();
}

/** Those that are otherwise, with what they are. One that the kernel lacks (a host without IPv6) is left out. */
export async function otherSysctls(wanted: readonly Sysctl[]): Promise<readonly Sysctl[]> {
  const found = await Promise.all(wanted.map(async ({ name, value }) => ({ name, value, current: await readSysctl(name) })));
  return found.flatMap(({ name, value, current }) => (current === undefined || current === value ? [] : [{ name, value: current }]));
}

/** One that the kernel lacks is left out. */
export async function setSysctls(wanted: readonly Sysctl[]): Promise<void> {
  for (const { name, value } of wanted) {
    const current = await readSysctl(name); // one may have changed with one before it
    if (current !== undefined && current !== value) await writeFile(join("/proc/sys", name), value);
  }
}
