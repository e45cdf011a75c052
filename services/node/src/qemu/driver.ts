// The QEMU driver. QEMU runs detached, in the VM's folder; the agent finds it again by pid and start time.
import { open, rm, stat, truncate } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import {
  PitwallError,
  isAlive,
  noFailpoints,
  planted,
  processUsage,
  signalProcess,
  type Failpoints,
  type ProcessIdentity,
} from "@pitwall/runtime";
import { greetGuest } from "../guest/channel.ts";
import { endOf, spawnDetached, untilListening, type ProcessEnd } from "../host/spawn-detached.ts";
import type { Vmm, VmmDriver, VmmProcess, VmmSpec } from "../machine/vmm.ts";
import { files, socketPath, vmArguments, wiring } from "./arguments.ts";
import { forget, giveMemory, isSuspended, saveMemory } from "./memory.ts";
import { probeQemu, type Probed } from "./probe.ts";
import { qmp } from "./qmp.ts";
import { hostTscKhz } from "../host/tsc.ts";

const startLimitMs = 10_000;
/** Nothing else is to be done with a guest that stands still. */
const contLimitMs = 60_000;
const tailBytes = 2048;
const maxConsoleBytes = 1 << 20;
const consoleCheckMs = 10_000;

/** `kernel` is what the probe boots. `cacheDir` keeps what it found. */
export function openQemuDriver(options: { kernel: string; cacheDir: string; failpoints?: Failpoints }): VmmDriver {
  const { failpoints = noFailpoints } = options;
  let probed: Promise<Probed> | undefined;
  const probe = (): Promise<Probed> => {
    probed ??= probeQemu(options.kernel, options.cacheDir);
    probed.catch(() => {
      probed = undefined;
    });
    return probed;
  };
  return {
    name: "qemu",
    wiring,
    probe,
    async start(spec) {
      const [{ acceleration }, tscKhz] = await Promise.all([probe(), hostTscKhz()]);
      // A guest's program that has failpoints finds in its environment what the kernel's command line names.
      const environment = failpoints.armed === undefined ? [] : [`PITWALL_FAILPOINTS=${failpoints.armed}`];
      return start(spec, vmArguments(spec, { acceleration, tscKhz, environment }, spec.initramfs), failpoints);
    },
    isSuspended,
    forget,
    async wake(spec) {
      const [{ acceleration }, tscKhz] = await Promise.all([probe(), hostTscKhz()]);
      return start(spec, vmArguments(spec, { acceleration, tscKhz }), failpoints, async (process, ended) => {
        await giveMemory(process, spec.dir, ended);
        await failpoints.at("wake.memory.gone", spec.vmId);
        await qmp(socketPath(process.pid, files.qmp), "cont", undefined, contLimitMs);
      });
    },
    async adopt({ dir }, process) {
      return isAlive(process) ? handle(dir, process, endOf(process), failpoints) : undefined;
    },
  };
}

/** `run` brings what was spawned so far that its CPUs run. */
async function start(
  spec: Pick<VmmSpec, "dir" | "vmId">,
  args: string[],
  failpoints: Failpoints,
  run: (identity: ProcessIdentity, ended: Promise<unknown>) => Promise<void> = running,
): Promise<Vmm> {
  await removeRuntimeFiles(spec.dir);
  const { identity, ended } = await spawnDetached("qemu-system-x86_64", args, spec.dir, files.output);
  try {
    if (!identity) throw new Error("the process could not be started");
    await failpoints.at("create.vmm.spawned", spec.vmId);
    await run(identity, ended);
    await failpoints.at("create.vmm.configured", spec.vmId);
    return handle(spec.dir, { driver: "qemu", ...identity }, ended, failpoints);
  } catch (error) {
    if (identity) signalProcess(identity, "SIGKILL");
    await ended;
    const said = await tail(spec.dir);
    await removeRuntimeFiles(spec.dir);
    throw new PitwallError("unavailable", `QEMU did not start${said === "" ? "" : `: ${said}`}`, {
      reason: "VMM_START_FAILED",
      cause: error,
    });
  }
}

/** QEMU greets early, but answers a command only once the machine is made and all its files are open. */
async function running(identity: ProcessIdentity, ended: Promise<unknown>): Promise<void> {
  const path = socketPath(identity.pid, files.qmp);
  await untilListening(identity, path, startLimitMs);
  const endedEarly = ended.then((): never => {
    throw new Error("it ended at once");
  });
  await Promise.race([qmp(path, "query-status"), endedEarly]);
}

function handle(dir: string, process: VmmProcess, ended: Promise<ProcessEnd>, failpoints: Failpoints): Vmm {
  let stream: Socket | undefined;
  const trim = setInterval(() => void trimConsole(dir), consoleCheckMs).unref();
  const exited = ended.then(async (exit) => {
    clearInterval(trim);
    return { ...exit, tail: await tail(dir) };
  });
  return {
    process,
    exited,
    async openChannel(signal): Promise<Duplex> {
      stream?.destroy();
      if (!isAlive(process)) throw new PitwallError("unavailable", "the VM's QEMU is gone", { reason: "VMM_GONE" });
      const socket = connect(socketPath(process.pid, files.channel));
      stream = socket;
      return greetGuest(socket, signal);
    },
    async pause() {
      await qmp(socketPath(process.pid, files.qmp), "stop");
    },
    async resume() {
      await qmp(socketPath(process.pid, files.qmp), "cont");
    },
    async suspend(signal) {
      const control = socketPath(process.pid, files.qmp);
      try {
        await saveMemory(process, dir, signal);
        await failpoints.at("suspend.memory.kept");
      } catch (error) {
        await qmp(control, "cont", undefined, contLimitMs).catch(() => undefined); // it is gone then, or its CPUs run
        throw error;
      }
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

async function removeRuntimeFiles(dir: string): Promise<void> {
  await Promise.all(Object.values(files).map((name) => rm(join(dir, name), { force: true })));
}

/** QEMU appends, so a file that is cut begins anew. */
async function trimConsole(dir: string): Promise<void> {
  const path = join(dir, files.console);
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size > maxConsoleBytes) await truncate(path, 0).catch(() => undefined); // gone with its VM
}

async function tail(dir: string): Promise<string> {
  const parts = await Promise.all([files.output, files.console].map((name) => lastBytes(join(dir, name))));
  return parts.filter((part) => part !== "").join("\n");
}

async function lastBytes(path: string): Promise<string> {
  const file = await open(path, "r").catch(() => undefined);
  if (!file) return "";
  try {
    const { size } = await file.stat();
    const { buffer, bytesRead } = await file.read(Buffer.alloc(tailBytes), 0, tailBytes, Math.max(0, size - tailBytes));
    return buffer.toString("utf8", 0, bytesRead).trim();
  } finally {
    await file.close();
  }
}
