// Processes that outlive the agent, told apart by pid and start time (proc(5), /proc/PID/stat), never by pid alone.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { planted } from "./planted.ts";

/** What makes a process that process. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks from boot to the start of the process. */
  readonly startTicks: bigint;
}

interface Stat {
  readonly state: string;
  readonly startTicks: bigint;
  readonly cpuTicks: number;
  readonly rssPages: number;
}

function readStat(pid: number): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" "); // the name before may hold anything
    return {
      state: fields[0] ?? "",
      startTicks: BigInt(fields[19] ?? 0),
      cpuTicks: Number(fields[11]) + Number(fields[12]),
      rssPages: Number(fields[21]),
    };
  } catch {
    return undefined;
  }
}

/** The identity of a live process; undefined when there is none with this pid. */
export function identify(pid: number): ProcessIdentity | undefined {
  const stat = readStat(pid);
  return stat && stat.state !== "Z" ? { pid, startTicks: stat.startTicks } : undefined;
}

export function isAlive(identity: ProcessIdentity): boolean {
  const found = identify(identity.pid);
  return planted("pid-alone") ? found !== undefined : found?.startTicks === identity.startTicks;
}

/** Sends a signal, unless the process has gone. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): void {
  if (!isAlive(identity)) return;
  try {
    process.kill(identity.pid, signal);
  } catch {
    // it went in between
  }
}

/** Resolves when the process has gone; it need not be a child. */
export async function waitForExit(identity: ProcessIdentity, pollMs = 50): Promise<void> {
  while (isAlive(identity)) await delay(pollMs, undefined, { ref: false });
}

/** CPU time and resident memory of a live process; zeros when it has gone. */
export function processUsage(identity: ProcessIdentity): { readonly cpuMs: number; readonly rssBytes: number } {
  const stat = isAlive(identity) ? readStat(identity.pid) : undefined;
  return { cpuMs: (stat?.cpuTicks ?? 0) * 10, rssBytes: (stat?.rssPages ?? 0) * 4096 }; // USER_HZ is 100, pages are 4 KiB on amd64
}

/** Every process that works in this folder: how a VMM is found that was started and not yet written down. */
export function processesIn(dir: string): ProcessIdentity[] {
  const pids = readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid);
  return pids.flatMap((pid) => {
    try {
      const cwd = readlinkSync(`/proc/${pid}/cwd`);
      const identity = cwd === dir || cwd === `${dir} (deleted)` ? identify(pid) : undefined;
      return identity ? [identity] : [];
    } catch {
      return []; // it went, or belongs to somebody else
    }
  });
}
