// The simulated VMM: a process per VM that speaks the guest channel and runs nothing. For rehearsals of a fleet, and for tests of
// everything above the driver. All that it has in memory is how long it has run.
import { readFile, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import {
  exists,
  isAlive,
  noFailpoints,
  PitwallError,
  planted,
  processUsage,
  signalProcess,
  syncPath,
  systemClock,
  writeFileAtomic,
  type Failpoints,
} from "@pitwall/runtime";
import { greetGuest } from "../guest/channel.ts";
import { endOf, spawnDetached, untilListening, type ProcessEnd } from "../host/spawn-detached.ts";
import type { Vmm, VmmDriver, VmmProcess, VmmSpec } from "../machine/vmm.ts";
import { wiring } from "./wiring.ts";

const socketName = "guest.sock";
const outputName = "sim.log";
const memoryName = "memory";
const startLimitMs = 10_000;
/** USER_HZ is 100. */
const tickMs = 10;
const program = join(import.meta.dirname, "guest.ts");

export function openSimDriver(failpoints: Failpoints = noFailpoints): VmmDriver {
  return {
    name: "sim",
    wiring,
    probe: async () => ({ version: "1", acceleration: "none" }),
    start: (spec) => start(spec, 0, failpoints),
    isSuspended: (dir) => exists(join(dir, memoryName)),
    forget,
    async wake(spec) {
      const memory = join(spec.dir, memoryName);
      const ranMs = Number(
        await readFile(memory, "utf8").catch((cause: unknown) => {
          throw new PitwallError("unavailable", "there is no memory of this VM", { reason: "MEMORY_REFUSED", cause });
        }),
      );
      return start(spec, ranMs, failpoints, async () => {
        await forget(spec.dir);
        await failpoints.at("wake.memory.gone", spec.vmId);
      });
    },
    async adopt({ dir }, process) {
      return isAlive(process) ? handle(dir, process, endOf(process), failpoints) : undefined;
    },
  };
}

/** `ranMs`: before. The guest answers once somebody has connected, so `run` comes before its first instruction. */
async function start(
  { vmId, epoch, dir }: Pick<VmmSpec, "vmId" | "epoch" | "dir">,
  ranMs: number,
  failpoints: Failpoints,
  run: () => Promise<void> = async () => undefined,
): Promise<Vmm> {
  await rm(join(dir, socketName), { force: true });
  const args = [program, socketName, vmId, String(epoch), String(ranMs)];
  const { identity, ended } = await spawnDetached(process.execPath, args, dir, outputName);
  try {
    if (!identity) throw new Error("the process could not be started");
    await failpoints.at("create.vmm.spawned", vmId);
    await untilListening(identity, socketPath(identity.pid), startLimitMs);
    await run();
    await failpoints.at("create.vmm.configured", vmId);
  } catch (cause) {
    if (identity) signalProcess(identity, "SIGKILL");
    await ended;
    await Promise.all([socketName, outputName].map((name) => rm(join(dir, name), { force: true })));
    throw new PitwallError("unavailable", "the simulated VMM did not start", { reason: "VMM_START_FAILED", cause });
  }
  return handle(dir, { driver: "sim", ...identity }, ended, failpoints);
}

async function forget(dir: string): Promise<void> {
  await rm(join(dir, memoryName), { force: true });
  await syncPath(dir);
}

/** How long a simulated guest has run, in this process and in those before. */
async function ranMsOf({ pid, startTicks }: VmmProcess): Promise<number> {
  const before = (await readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0").at(-2);
  return Math.round(Number(before) + systemClock.bootMs() - Number(startTicks) * tickMs);
}

const socketPath = (pid: number): string => `/proc/${pid}/cwd/${socketName}`;

function handle(dir: string, process: VmmProcess, ended: Promise<ProcessEnd>, failpoints: Failpoints): Vmm {
  let stream: Socket | undefined;
  const exited = ended.then(async (exit) => {
    await rm(join(dir, socketName), { force: true });
    return { ...exit, tail: "the simulated VMM ended" };
  });
  return {
    process,
    exited,
    async openChannel(signal) {
      stream?.destroy();
      if (!isAlive(process)) throw new PitwallError("unavailable", "the simulated VMM is gone", { reason: "VMM_GONE" });
      const socket = connect(socketPath(process.pid));
      stream = socket;
      return greetGuest(socket, signal);
    },
    pause: async () => signalProcess(process, "SIGSTOP"),
    resume: async () => signalProcess(process, "SIGCONT"),
    async suspend(signal) {
      signal.throwIfAborted(); // what it writes is a number
      await writeFileAtomic(join(dir, memoryName), String(await ranMsOf(process)));
      await failpoints.at("suspend.memory.kept");
      signalProcess(process, "SIGKILL");
      await exited;
    },
    async kill() {
      signalProcess(process, "SIGKILL");
      if (!planted("release-before-exit")) await exited;
    },
    usage: async () => processUsage(process),
  };
}
