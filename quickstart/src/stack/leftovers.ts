// What an earlier supervisor left behind when it was killed: its services, found by pid and start time.
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { identify, isAlive, processesIn, signalProcess, waitForExit, writeFileAtomic, type ProcessIdentity } from "@pitwall/runtime";
import { z } from "zod";

const stored = z.array(z.object({ pid: z.number(), startTicks: z.string() }));
const fileName = "processes.json";
const limitMs = 20_000;

/** Writes down the processes of this run. */
export async function remember(stateDir: string, pids: readonly number[]): Promise<void> {
  const entries = pids.map((pid) => ({ pid, startTicks: String(identify(pid)?.startTicks ?? "") }));
  await writeFileAtomic(join(stateDir, fileName), JSON.stringify(entries));
}

export async function forget(stateDir: string): Promise<void> {
  await rm(join(stateDir, fileName), { force: true });
}

/** Ends what is left of an earlier run. Throws when its supervisor is alive. The first process on the list is the supervisor. */
export async function endLeftovers(stateDir: string, say: (text: string) => void): Promise<void> {
  const text = await readFile(join(stateDir, fileName), "utf8").catch(() => undefined);
  if (text === undefined) return;
  const alive: ProcessIdentity[] = [];
  for (const [at, { pid, startTicks }] of stored.parse(JSON.parse(text)).entries()) {
    const identity = { pid, startTicks: BigInt(startTicks || 0) };
    if (startTicks === "" || !isAlive(identity)) continue;
    if (at === 0)
      throw new Error(`this state folder is in use by another \`npm start\` (process ${pid}): stop it, or choose another --state`);
    alive.push(identity);
  }
  if (alive.length > 0) say(`ending ${alive.length} services of an earlier start`);
  await Promise.all(alive.map((identity) => end(identity, "SIGTERM")));
  await forget(stateDir);
}

/** Ends what outlives its service on purpose, VMs and the database, before the state that would find them again is removed. */
export async function endSurvivors(stateDir: string): Promise<void> {
  const vms = join(stateDir, "node", "vms");
  for (const name of await readdir(vms).catch(() => [])) {
    await Promise.all(processesIn(join(vms, name)).map((identity) => end(identity, "SIGKILL")));
  }
  // Line 1 of postmaster.pid is the server's pid, line 2 its data folder; SIGINT is its fast shutdown.
  const [pid] = (await readFile(join(stateDir, "controller", "postgres", "data", "postmaster.pid"), "utf8").catch(() => "")).split("\n");
  const postgres = pid ? identify(Number(pid)) : undefined;
  const command = postgres ? await readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "") : "";
  if (postgres && command.includes("postgres")) await end(postgres, "SIGINT");
}

/** Resolves when the process is gone; one that does not heed the signal in time is killed. */
async function end(identity: ProcessIdentity, signal: NodeJS.Signals): Promise<void> {
  signalProcess(identity, signal);
  const timer = setTimeout(() => signalProcess(identity, "SIGKILL"), limitMs);
  await waitForExit(identity);
  clearTimeout(timer);
}
