// The rest of the world, in another network namespace than the one that a scenario runs in.
import { execFileSync, spawn } from "node:child_process";
import { systemClock } from "@pitwall/runtime";
import type { Subnet } from "../../src/network/address-plan.ts";

export const hostAddress = "198.51.100.2";
export const worldAddress = "198.51.100.1";
/** Somebody in the world who answers. */
export const anybody = "203.0.113.7";

const ip = (...args: readonly string[]): string => execFileSync("ip", args, { encoding: "utf8" });

/** Joined to this one by a veth pair; at its far end is everybody. */
export async function makeWorld(subnet: Subnet): Promise<{ readonly within: readonly string[]; readonly end: () => void }> {
  const child = spawn("unshare", ["-n", "sleep", "600"], { stdio: "ignore" });
  const pid = child.pid;
  if (pid === undefined) throw new Error("there is no world");
  ip("link", "set", "lo", "up");
  const own = execFileSync("readlink", ["/proc/self/ns/net"], { encoding: "utf8" });
  while (execFileSync("readlink", [`/proc/${pid}/ns/net`], { encoding: "utf8" }) === own) await systemClock.sleep(10);
  ip("link", "add", "eth0", "type", "veth", "peer", "name", "world0");
  ip("link", "set", "world0", "netns", String(pid));
  ip("address", "add", `${hostAddress}/24`, "dev", "eth0");
  ip("link", "set", "eth0", "mtu", "1400", "up");
  const within = ["nsenter", "-t", String(pid), "-n"];
  const there = (...args: readonly string[]): void => void execFileSync("nsenter", [...within.slice(1), "ip", ...args]);
  there("link", "set", "lo", "up");
  there("link", "set", "world0", "mtu", "1400", "up");
  there("address", "add", `${worldAddress}/24`, "dev", "world0");
  there("address", "add", `${anybody}/32`, "dev", "lo");
  there("route", "add", subnet.cidr, "via", hostAddress);
  ip("route", "add", "default", "via", worldAddress);
  return { within, end: () => void child.kill("SIGKILL") };
}
