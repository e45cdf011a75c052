// What an earlier supervisor left behind when it was killed: its services, found by pid and start time.
import { readdir, readFile, readlink, rm } from "node:fs/promises";
import { join } from "node:path";
import { systemClock, writeFileAtomic } from "@pitwall/runtime";
import { z } from "zod";

const stored = z.array(z.object({ pid: z.number(), startTicks: z.string() }));
const fileName = "processes.json";
const limitMs = 20_000;

/** Field 22 of /proc/PID/stat; undefined when there is no such process. */
async function startTicks(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  return text?.slice(text.lastIndexOf(")") + 2).split(" ")[19];
}

/** Writes down the processes of this run. */
export async function remember(stateDir: string, pids: readonly number[]): Promise<void> {
  const entries = await Promise.all(pids.map(async (pid) => ({ pid, startTicks: (await startTicks(pid)) ?? "" })));
  await writeFileAtomic(join(stateDir, fileName), JSON.stringify(entries));
}

export async function forget(stateDir: string): Promise<void> {
  await rm(join(stateDir, fileName), { force: true });
}

/** Ends what is left of an earlier run. Throws when its supervisor is alive. The first process on the list is the supervisor. */
export async function endLeftovers(stateDir: string, say: (text: string) => void): Promise<void> {
  const text = await readFile(join(stateDir, fileName), "utf8").catch(() => undefined);
  if (text === undefined) return;
  const alive: number[] = [];
  for (const [at, { pid, startTicks: ticks }] of stored.parse(JSON.parse(text)).entries()) {
    if (ticks === "" || (await startTicks(pid)) !== ticks) continue;
    if (at === 0)
      throw new Error(`this state folder is in use by another \`npm start\` (process ${pid}): stop it, or choose another --state`);
    alive.push(pid);
  }
  if (alive.length > 0) say(`ending ${alive.length} services of an earlier start`);
  for (const pid of alive) process.kill(pid, "SIGTERM");
  const deadline = systemClock.monotonicMs() + limitMs;
  for (const pid of alive) {
    while ((await startTicks(pid)) !== undefined) {
      if (systemClock.monotonicMs() > deadline) process.kill(pid, "SIGKILL");
      await systemClock.sleep(50);
    }
  }
  await forget(stateDir);
}

/** Ends what outlives its service on purpose, VMs and the database, before the state that would find them again is removed. */
export async function endSurvivors(stateDir: string): Promise<void> {
  const vms = join(stateDir, "node", "vms");
  for (const name of await readdir("/proc")) {
    const cwd = /^\d+$/.test(name) ? await readlink(`/proc/${name}/cwd`).catch(() => "") : "";
    if (cwd.startsWith(`${vms}/`)) await end(Number(name), "SIGKILL");
  }
  // Line 1 of postmaster.pid is the server's pid, line 2 its data folder; SIGINT is its fast shutdown.
  const [pid] = (await readFile(join(stateDir, "controller", "postgres", "data", "postmaster.pid"), "utf8").catch(() => "")).split("\n");
  const command = pid ? await readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "") : "";
  if (command.includes("postgres")) await end(Number(pid), "SIGINT");
}

async function end(pid: number, signal: NodeJS.Signals): Promise<void> {
  const ticks = await startTicks(pid);
  if (ticks === undefined) return;
  process.kill(pid, signal);
  const deadline = systemClock.monotonicMs() + limitMs;
  while ((await startTicks(pid)) === ticks && systemClock.monotonicMs() < deadline) await systemClock.sleep(20);
}
