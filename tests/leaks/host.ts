// What an installation has of its host: processes, descriptors, sockets, files, and what the network, mounts and control groups hold.
import { execFile } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Lists } from "./difference.ts";
import { descriptors, membersOf, type Family } from "./family.ts";
import type { Ports } from "./ports.ts";

const run = promisify(execFile);
const cgroupRoot = "/sys/fs/cgroup";
const maxOutputBytes = 64 * 2 ** 20;

/** All of it now. `isAlone`: nobody else uses this network namespace, so that all sockets in it are the installation's. */
export async function hostLists(family: Family, ports: Ports, isAlone: boolean): Promise<Lists> {
  const members = membersOf(family);
  const pids = members.map(({ pid }) => pid);
  const rules = await Promise.all([
    output("iptables-save", ["-t", "filter"]),
    output("iptables-save", ["-t", "nat"]),
    output("ip6tables-save", ["-t", "filter"]),
    output("nft", ["list", "ruleset"]),
  ]);
  return {
    processes: members.map(({ command }) => command.replaceAll(family.dir, "")),
    descriptors: descriptors(family, ports),
    sockets: await sockets(ports, isAlone),
    files: filesBelow(family.dir),
    links: linesOf(await output("ip", ["-o", "link"])).map((line) => line.replace(/^\d+: /, "").replace(/\\.*$/, "")),
    routes: [
      ...linesOf(await output("ip", ["route", "show", "table", "all"])),
      ...linesOf(await output("ip", ["-6", "route", "show", "table", "all"])),
      ...linesOf(await output("ip", ["rule"])),
    ],
    neighbours: linesOf(await output("ip", ["neigh"])).map((line) => line.split(" ").slice(0, 3).join(" ")),
    rules: rules.flatMap(linesOf).map((line) => line.replace(/\[\d+:\d+\]|packets \d+ bytes \d+/g, "")),
    namespaces: [
      ...linesOf(await output("ip", ["netns", "list"])).map((line) => line.split(" ")[0] ?? ""),
      ...distinct(pids, (pid) => readlinkSync(`/proc/${pid}/ns/net`)),
    ],
    mounts: mountsSeenBy(pids),
    cgroups: folders(cgroupRoot),
  };
}

/** TCP connections that wait for their last packets (TIME-WAIT) are the kernel's, for a minute. */
async function sockets(ports: Ports, isAlone: boolean): Promise<string[]> {
  const internet = linesOf(await output("ss", ["-Hantu"])).flatMap((line) => {
    const [protocol = "", state = "", , , local = "", remote = ""] = line.split(/\s+/);
    const [here, there] = [portOf(local), portOf(remote)];
    if (state === "TIME-WAIT" || !(isAlone || ports.has(here) || ports.has(there))) return [];
    return [`${protocol} ${ports.nameOf(here)} with ${ports.nameOf(there)} ${state}`];
  });
  if (!isAlone) return internet;
  const local = linesOf(await output("ss", ["-Hax"])).map((line) => {
    const [kind = "", state = "", , , path = ""] = line.split(/\s+/);
    return `${kind} ${path} ${state}`;
  });
  return [...internet, ...local];
}

const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(":") + 1));

/** The database's own files are left out: its rows are looked at instead. */
function filesBelow(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length))
    .filter((path) => !path.includes("/controller/postgres/data/"));
}

function mountsSeenBy(pids: readonly number[]): string[] {
  const byNamespace = new Map(
    [process.pid, ...pids].flatMap((pid) => {
      try {
        return [[readlinkSync(`/proc/${pid}/ns/mnt`), readFileSync(`/proc/${pid}/mountinfo`, "utf8")] as const];
      } catch {
        return []; // it went in between
      }
    }),
  );
  return [...byNamespace.values()].flatMap(linesOf).map((line) => line.split(" ")[4] ?? "");
}

function folders(root: string): string[] {
  try {
    return readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name));
  } catch {
    return []; // no control groups, or one of them went in between
  }
}

function distinct(pids: readonly number[], read: (pid: number) => string): string[] {
  return [
    ...new Set(
      pids.flatMap((pid) => {
        try {
          return [read(pid)];
        } catch {
          return []; // it went in between
        }
      }),
    ),
  ];
}

/** What a program says. One that is not there, or may not look, says so, before as well as after. */
async function output(program: string, args: readonly string[]): Promise<string> {
  try {
    return (await run(program, args, { maxBuffer: maxOutputBytes })).stdout;
  } catch (error) {
    return `${program} cannot be asked (${error instanceof Error && "code" in error ? String(error.code) : "it failed"})`;
  }
}

function linesOf(text: string): string[] {
  return text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
}
