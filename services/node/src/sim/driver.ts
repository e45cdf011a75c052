// The simulated VMM: a process per VM that speaks the guest channel and runs nothing. For rehearsals of a fleet, and for tests of
// everything above the driver.
import { rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { PitwallError, isAlive, noFailpoints, planted, processUsage, signalProcess, type Failpoints } from "@pitwall/runtime";
import { greetGuest } from "../guest/channel.ts";
import { endOf, spawnDetached, untilListening, type ProcessEnd } from "../host/spawn-detached.ts";
import type { Vmm, VmmDriver, VmmProcess } from "../machine/vmm.ts";
import { wiring } from "./wiring.ts";

const socketName = "guest.sock";
const outputName = "sim.log";
const startLimitMs = 10_000;
const program = join(import.meta.dirname, "guest.ts");

export function openSimDriver(failpoints: Failpoints = noFailpoints): VmmDriver {
  return {
    name: "sim",
    wiring,
    probe: async () => ({ version: "1", acceleration: "none" }),
    async start({ vmId, epoch, dir }) {
      await rm(join(dir, socketName), { force: true });
      const { identity, ended } = await spawnDetached(process.execPath, [program, socketName, vmId, String(epoch)], dir, outputName);
      try {
        if (!identity) throw new Error("the process could not be started");
        await failpoints.at("create.vmm.spawned", vmId);
        await untilListening(identity, socketPath(identity.pid), startLimitMs);
        await failpoints.at("create.vmm.configured", vmId);
      } catch (cause) {
        if (identity) signalProcess(identity, "SIGKILL");
        await ended;
        await Promise.all([socketName, outputName].map((name) => rm(join(dir, name), { force: true })));
        throw new PitwallError("unavailable", "the simulated VMM did not start", { reason: "VMM_START_FAILED", cause });
      }
      return handle(dir, { driver: "sim", ...identity }, ended);
    },
    async adopt({ dir }, process) {
      return isAlive(process) ? handle(dir, process, endOf(process)) : undefined;
    },
  };
}

const socketPath = (pid: number): string => `/proc/${pid}/cwd/${socketName}`;

function handle(dir: string, process: VmmProcess, ended: Promise<ProcessEnd>): Vmm {
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
    async kill() {
      signalProcess(process, "SIGKILL");
      if (!planted("release-before-exit")) await exited;
    },
    usage: async () => processUsage(process),
  };
}
