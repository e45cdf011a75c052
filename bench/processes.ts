// Processes that benchmarks start: a port for one, whether it listens there, and what it has used.
import { readFile } from "node:fs/promises";
import { connect } from "node:net";

export async function isUp(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  return new Promise<boolean>((resolve) => {
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
  }).finally(() => socket.destroy());
}

/** What it has in memory, in KiB. */
export async function residentKib(pid: number): Promise<number> {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]);
}

/** Of all its threads, in user and system mode (proc(5)), in milliseconds. The kernel counts in hundredths of a second. */
export async function cpuMsOf(pid: number): Promise<number> {
  return (await cpuTimes(pid)).ownMs;
}

/** The same with its children, those that have ended too. */
export async function familyCpuMsOf(pid: number): Promise<number> {
  const { ownMs, endedMs } = await cpuTimes(pid);
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).trim().split(" ").filter(Boolean);
  const living = await Promise.all(children.map((child) => cpuMsOf(Number(child)).catch(() => 0))); // one that ends meanwhile counts next time
  return living.reduce((sum, ms) => sum + ms, ownMs + endedMs);
}

async function cpuTimes(pid: number): Promise<{ readonly ownMs: number; readonly endedMs: number }> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // from the third on
  const [user, system, endedUser, endedSystem] = fields.slice(11, 15).map((ticks) => Number(ticks) * 10);
  return { ownMs: (user ?? NaN) + (system ?? NaN), endedMs: (endedUser ?? NaN) + (endedSystem ?? NaN) };
}
