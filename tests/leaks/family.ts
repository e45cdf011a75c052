// The processes of an installation, what they have open, and how much memory they take: read from /proc.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { Ports } from "./ports.ts";

export interface Member {
  readonly pid: number;
  readonly command: string;
}

export interface Family {
  /** Everything that it keeps, for a moment or longer, is below. */
  readonly dir: string;
  /** Its services by name, and the database's server. */
  readonly roots: ReadonlyMap<string, number>;
}

interface Seen extends Member {
  readonly parent: number;
  readonly isOurs: boolean;
}

/** The services, all that descends from them, and all else that works in the folder, was given it, or names it. */
export function membersOf({ dir, roots }: Family): Member[] {
  const seen = new Map(pids().flatMap((pid) => look(pid, dir).map((process) => [pid, process] as const)));
  const ours = new Set([...roots.values(), ...[...seen.values()].filter(({ isOurs }) => isOurs).map(({ pid }) => pid)]);
  ours.delete(process.pid);
  for (let size = -1; size !== ours.size;) {
    size = ours.size;
    for (const { pid, parent } of seen.values()) if (parent !== process.pid && ours.has(parent)) ours.add(pid);
  }
  return [...ours].flatMap((pid) => seen.get(pid) ?? []);
}

/** What each service has open, a line for each descriptor. */
export function descriptors({ dir, roots }: Family, ports: Ports): string[] {
  return [...roots].flatMap(([name, pid]) => {
    const sockets = socketsSeenBy(pid, ports);
    return listed(`/proc/${pid}/fd`).flatMap((fd) => {
      const target = attempt(() => readlinkSync(`/proc/${pid}/fd/${fd}`));
      return target === undefined ? [] : [`${name}: ${nameOf(target, sockets, dir)}`];
    });
  });
}

/** Resident memory by service. */
export function residentBytes({ roots }: Family): Record<string, number> {
  return Object.fromEntries(
    [...roots].map(([name, pid]) => {
      const status = attempt(() => readFileSync(`/proc/${pid}/status`, "utf8")) ?? "";
      return [name, Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024];
    }),
  );
}

function pids(): number[] {
  return listed("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid));
}

function look(pid: number, dir: string): Seen[] {
  const stat = attempt(() => readFileSync(`/proc/${pid}/stat`, "latin1"));
  if (stat === undefined) return [];
  const [state = "", parent = ""] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const line = (attempt(() => readFileSync(`/proc/${pid}/cmdline`, "utf8")) ?? "").split("\0").join(" ").trim();
  const given = attempt(() => readFileSync(`/proc/${pid}/environ`, "utf8")) ?? "";
  const folder = attempt(() => readlinkSync(`/proc/${pid}/cwd`)) ?? "";
  const command = state === "Z" ? `a zombie of ${parent}` : worded(line);
  return [{ pid, parent: Number(parent), command, isOurs: [line, given, folder].some((text) => text.includes(dir)) }];
}

/** PostgreSQL writes into its title what it does at the moment. */
function worded(command: string): string {
  return command.startsWith("postgres: ") && /\(\d+\)/.test(command) ? "postgres: a connection" : command;
}

function nameOf(target: string, sockets: ReadonlyMap<string, string>, dir: string): string {
  const [, kind, inode = ""] = /^(socket|pipe):\[(\d+)\]$/.exec(target) ?? [];
  if (kind === "pipe") return "a pipe";
  if (kind === "socket") return sockets.get(inode) ?? "a socket";
  return target.replace(dir, "");
}

const states: Readonly<Record<string, string>> = { "01": "open", "0A": "listening" };

/** Sockets by inode, in the words of {@link Ports}. */
function socketsSeenBy(pid: number, ports: Ports): Map<string, string> {
  const found = new Map<string, string>();
  for (const protocol of ["tcp", "tcp6", "udp", "udp6"]) {
    for (const [, local = "", remote = "", state = "", , , , , , inode = ""] of rows(`/proc/${pid}/net/${protocol}`))
      found.set(inode, `${protocol} ${portOf(local, ports)} with ${portOf(remote, ports)} ${states[state] ?? "closing"}`);
  }
  for (const [, , , , , , inode = "", path = "a peer"] of rows(`/proc/${pid}/net/unix`)) found.set(inode, `unix ${path}`);
  return found;
}

function portOf(address: string, ports: Ports): string {
  return ports.nameOf(Number.parseInt(address.split(":")[1] ?? "", 16));
}

function rows(path: string): string[][] {
  const lines = (attempt(() => readFileSync(path, "latin1")) ?? "").trim().split("\n").slice(1);
  return lines.map((line) => line.trim().split(/\s+/));
}

function listed(path: string): string[] {
  return attempt(() => readdirSync(path)) ?? [];
}

/** Undefined: it went in between, or is somebody else's. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
