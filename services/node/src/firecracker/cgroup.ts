// One cgroup (v2) per VMM: limits, who is in it, its end. `ROOT/pitwall/VM-EPOCH`; docs: Documentation/admin-guide/cgroup-v2.rst of Linux.
import { watch } from "node:fs";
import { mkdir, readFile, rmdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isMissing, PitwallError, systemClock } from "@pitwall/runtime";

const parentName = "pitwall";
const controllers = ["cpu", "memory", "pids", "io"] as const;
/** What a VMM takes beside its guest's memory: its own, its threads' stacks, the host's page tables for the guest. */
const overheadBytes = 64 * 2 ** 20;
/** Firecracker has two threads beside one for each virtual CPU; the jailer is there for a moment. */
const otherThreads = 8;
const periodUs = 100_000;
const pollMs = 5;
/** Should the kernel's word that it is empty be missed. */
const lookMs = 1_000;
const killLimitMs = 5_000;

export interface Limits {
  readonly vcpus: number;
  readonly memBytes: number;
  /** Bytes per second that the VMM may read from, and write to, the disk that this folder is on. */
  readonly io: { readonly dir: string; readonly bytesPerS: number };
}

/** Where cgroups of VMs are. Throws `unsupported` with what is missing. */
export async function openCgroups(mounts?: string): Promise<string> {
  const text = mounts ?? (await readFile("/proc/mounts", "utf8"));
  const root = text
    .split("\n")
    .map((line) => line.split(" "))
    .find(([, , type]) => type === "cgroup2")?.[1];
  const refuse = (why: string): PitwallError =>
    new PitwallError("unsupported", `Firecracker VMs need cgroup v2 with ${controllers.join(", ")}: ${why}`, { reason: "NO_CGROUP" });
  if (root === undefined) throw refuse("it is not mounted (boot the host with systemd.unified_cgroup_hierarchy=1)");
  const there = (await readFile(join(root, "cgroup.controllers"), "utf8")).trim().split(" ");
  const lacking = controllers.filter((name) => !there.includes(name));
  if (lacking.length > 0) throw refuse(`it has no ${lacking.join(", ")}`);
  const parent = join(root, parentName);
  await enable(root);
  await mkdir(parent, { recursive: true });
  await enable(parent);
  return parent;
}

async function enable(dir: string): Promise<void> {
  await writeFile(join(dir, "cgroup.subtree_control"), controllers.map((name) => `+${name}`).join(" "));
}

/** Makes a cgroup with its limits; there must be none of that name. Throws `state` when there is. */
export async function makeCgroup(parent: string, name: string, limits: Limits): Promise<void> {
  const dir = join(parent, name);
  await mkdir(dir).catch((cause: unknown) => {
    throw new PitwallError("state", "there is a cgroup of this VM already", { reason: "CGROUP_EXISTS", cause });
  });
  for (const [file, value] of Object.entries(settings(limits))) await writeFile(join(dir, file), value);
  const device = await diskOf(limits.io.dir);
  const rate = limits.io.bytesPerS;
  if (device !== undefined) await writeFile(join(dir, "io.max"), `${device} rbps=${rate} wbps=${rate}`);
}

/** Swap is none of a VMM's: a guest's memory on the host's disk would outlive it. */
export function settings({ vcpus, memBytes }: Pick<Limits, "vcpus" | "memBytes">): Readonly<Record<string, string>> {
  return {
    "cpu.max": `${vcpus * periodUs} ${periodUs}`,
    "cpu.weight": String(Math.min(10_000, 100 * vcpus)),
    "memory.max": String(memBytes + overheadBytes),
    "memory.swap.max": "0",
    "memory.oom.group": "1",
    "pids.max": String(vcpus + otherThreads),
  };
}

/** `MAJOR:MINOR` of the whole disk that a folder is on: io.max takes no partitions. Undefined where there is no such disk. */
async function diskOf(dir: string): Promise<string | undefined> {
  const { dev } = await stat(dir);
  const own = `${(dev >> 8) & 0xfff}:${(dev & 0xff) | ((dev >> 12) & 0xfff00)}`;
  const isPartition = await stat(`/sys/dev/block/${own}/partition`).catch(() => undefined);
  const device = await readFile(`/sys/dev/block/${own}${isPartition ? "/.." : ""}/dev`, "utf8").catch(() => undefined);
  return device?.trim();
}

/** Those that are in a cgroup; none when it is gone. */
export async function membersOf(parent: string, name: string): Promise<readonly number[]> {
  return (await read(parent, name, "cgroup.procs")).split("\n").filter(Boolean).map(Number);
}

/** Whether anything runs in it. */
async function isPopulated(parent: string, name: string): Promise<boolean> {
  return /^populated 1$/m.test(await read(parent, name, "cgroup.events"));
}

/** Nothing when it is gone; rejects when it cannot be read, as by an agent that has no file descriptor left: that says nothing of VMs. */
async function read(parent: string, name: string, file: string): Promise<string> {
  return readFile(join(parent, name, file), "utf8").catch((error: unknown) => {
    if (isMissing(error) || isGone(error)) return "";
    throw error;
  });
}

/** It was removed while it was read. */
function isGone(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENODEV";
}

/** Resolves when nothing runs in it any more. Costs nothing meanwhile: the kernel tells. */
export async function untilEmpty(parent: string, name: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const look = async (): Promise<void> => {
    if (!(await isPopulated(parent, name))) resolve();
  };
  const lookAgain = (): void => void look().catch(() => undefined); // the timer looks again
  const timer = setInterval(lookAgain, lookMs).unref();
  const watcher = watched(join(parent, name, "cgroup.events"), lookAgain);
  lookAgain();
  try {
    await promise;
  } finally {
    clearInterval(timer);
    watcher?.close();
  }
}

/** Undefined when it is gone already, or the host has no watch left; then the timer has to do. */
function watched(path: string, onChange: () => void): { close(): void } | undefined {
  try {
    const watcher = watch(path, { persistent: false }, onChange);
    watcher.on("error", () => undefined);
    return watcher;
  } catch {
    return undefined;
  }
}

/** What forks meanwhile is there the next time. */
async function killEach(parent: string, name: string): Promise<void> {
  for (const pid of await membersOf(parent, name).catch(() => []))
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // it has ended, or what follows tells
    }
}

/** Kills all that is in it and removes it; once more is as well as once. Throws `unavailable` when something does not go. */
export async function removeCgroup(parent: string, name: string): Promise<void> {
  const dir = join(parent, name);
  const deadline = systemClock.monotonicMs() + killLimitMs;
  for (;;) {
    await writeFile(join(dir, "cgroup.kill"), "1", { flag: "r+" }).catch(() => killEach(parent, name)); // before Linux 5.14
    const error: unknown = await rmdir(dir).catch((cause: unknown) => cause);
    if (error === undefined || isMissing(error)) return;
    if (systemClock.monotonicMs() > deadline) {
      throw new PitwallError("unavailable", "a VMM's cgroup cannot be removed", { reason: "CGROUP_STUCK", cause: error });
    }
    await systemClock.sleep(pollMs);
  }
}
