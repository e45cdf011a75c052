// The Firecracker driver: each VM in a jail of its own, as a user of its own. The agent finds it again by its lease, its pid and start
// time, and its jail.
import { mkdir, readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Duplex } from "node:stream";
import {
  copyFileAtomic,
  exists,
  isAlive,
  noFailpoints,
  PitwallError,
  planted,
  processUsage,
  signalProcess,
  systemClock,
  type Failpoints,
  type Log,
} from "@pitwall/runtime";
import type { Vmm, VmmDriver, VmmExit, VmmProcess, VmmSpec } from "../machine/vmm.ts";
import { statKernel } from "../host/kernel.ts";
import { hostTscKhz } from "../host/tsc.ts";
import { checkSocket } from "./api.ts";
import { guestPort, wiring } from "./arguments.ts";
import { openCgroups, untilEmpty } from "./cgroup.ts";
import { isRootOf } from "./confinement.ts";
import { jailId, jailRoot, names } from "./jail.ts";
import { clear, hold, launch, type Ground, type Held } from "./launch.ts";
import { probeFirecracker } from "./probe.ts";
import { openPrograms, type InstalledPrograms } from "./programs.ts";
import { checkHostRange, openUids, type UidLease, type UidRange } from "./uids.ts";
import { dialVsock } from "./vsock.ts";
import { untilSilent } from "./watchdog.ts";

/** One connection attempt: Firecracker itself gives up after 2 s. */
const dialLimitMs = 1_000;
const dialRestMs = 20;

export interface FirecrackerOptions {
  readonly installed: InstalledPrograms;
  /** Of the agent: leases, the program's copy, and what the probe found are in its folder `firecracker`. */
  readonly stateDir: string;
  readonly kernel: string;
  readonly uids: UidRange;
  readonly log: Log;
  readonly failpoints?: Failpoints;
  /** More arguments for Firecracker, for tests of what is refused. */
  readonly extra?: readonly string[];
}

export function openFirecrackerDriver(options: FirecrackerOptions): VmmDriver {
  const dir = join(options.stateDir, "firecracker");
  let opened: Promise<Ground> | undefined;
  const ground = (): Promise<Ground> => {
    opened ??= openGround(options, dir);
    opened.catch(() => {
      opened = undefined;
    });
    return opened;
  };
  return {
    name: "firecracker",
    wiring,
    async probe() {
      return probeFirecracker(await ground(), await localKernel(options.kernel, dir), dir);
    },
    async start(spec) {
      return start(await ground(), spec, await localKernel(spec.kernel, dir));
    },
    isSuspended: async () => false,
    forget: async () => undefined,
    async wake() {
      throw noSuspension();
    },
    async adopt({ vmId }, process) {
      const on = await ground();
      const lease = on.uids.of(vmId);
      if (lease === undefined || !isAlive(process) || !(await isRootOf(process.pid, jailRoot(lease)))) return undefined;
      return handle(on, hold(lease, process), process, false);
    },
    async sweep(claimed) {
      const on = await ground();
      const kept = new Set(claimed.filter(({ process }) => isAlive(process)).map(({ vmId }) => vmId));
      for (const lease of on.uids.all()) {
        if (kept.has(lease.vmId)) continue;
        on.log.warn("removing what a VM has left on this host", { vm: lease.vmId, uid: lease.uid });
        await clearOrSay(on, lease); // other VMs are not to wait for this one
      }
    },
  };
}

async function openGround(
  { installed, uids, log, failpoints = noFailpoints, extra = [] }: FirecrackerOptions,
  dir: string,
): Promise<Ground> {
  if (process.getuid?.() !== 0) {
    throw new PitwallError("unsupported", "Firecracker VMs are started by root only: run the node as root, or with PITWALL_DRIVER=qemu", {
      reason: "NOT_ROOT",
    });
  }
  await checkHostRange(uids);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  return {
    programs: await openPrograms(installed, join(dir, "programs")),
    cgroups: await openCgroups(),
    uids: await openUids(join(dir, "uids"), uids),
    tscKhz: await hostTscKhz(),
    failpoints,
    log,
    extra,
  };
}

/** The kernel in a file of the agent's own, on the disk that jails are on: it is linked into them. */
async function localKernel(kernel: string, dir: string): Promise<string> {
  const found = await statKernel(kernel);
  const copy = join(dir, `kernel-${found.size}-${Math.floor(found.mtimeMs)}`);
  if (await exists(copy)) return copy;
  await copyFileAtomic(kernel, copy);
  // An earlier kernel; jails that have it keep it.
  for (const name of await readdir(dir))
    if (name.startsWith("kernel-") && name !== basename(copy)) await rm(join(dir, name), { force: true });
  return copy;
}

async function start(on: Ground, spec: VmmSpec, kernel: string): Promise<Vmm> {
  const { vmId, epoch, dir, vcpus, memBytes, initramfs, base, disk } = spec;
  const before = on.uids.of(vmId);
  if (before) await clear(on, before); // of a start whose end could not be cleared away
  const lease = await on.uids.lease(vmId, epoch, dir);
  const held = await launch(on, lease, { vcpus, memBytes, hasDisks: true, files: { kernel, initramfs, base, disk } });
  return handle(on, held, { driver: "firecracker", ...held.process }, true);
}

/** The next start of the VM, or of the agent, tries again. */
async function clearOrSay(on: Ground, lease: UidLease): Promise<void> {
  await clear(on, lease).catch((error: unknown) =>
    on.log.error("what a VM had on this host could not be removed", { vm: lease.vmId, error }),
  );
}

function handle(on: Ground, held: Held, process: VmmProcess, isOurs: boolean): Vmm {
  const { lease, api } = held;
  const over = new AbortController();
  let stream: Duplex | undefined;
  let killedFor: string | undefined;
  const kill = (why: string): void => {
    if (isAlive(process)) killedFor ??= why;
    signalProcess(process, "SIGKILL");
  };

  const exited = (async (): Promise<VmmExit> => {
    await untilEmpty(on.cgroups, jailId(lease));
    over.abort();
    const tail = [killedFor === silence ? silence : "", held.tail()].filter(Boolean).join("\n");
    held[Symbol.dispose]();
    await clearOrSay(on, lease);
    // It was the jailer's child, so nobody has its exit code.
    return { code: null, signal: killedFor !== undefined && isOurs ? "SIGKILL" : null, tail };
  })();

  void untilSilent(() => api.describe(), systemClock, over.signal).then((isSilent) => {
    if (!isSilent) return;
    on.log.warn("killing a VMM whose API does not answer", { vm: lease.vmId });
    kill(silence);
  });

  return {
    process,
    exited,
    async openChannel(signal) {
      stream?.destroy();
      const opened = await openChannel(process, lease.uid, signal);
      stream = opened;
      return opened;
    },
    pause: () => api.setState("Paused"),
    resume: () => api.setState("Resumed"),
    async suspend() {
      throw noSuspension();
    },
    async kill() {
      kill("asked");
      if (!planted("release-before-exit")) await exited;
    },
    usage: async () => processUsage(process),
  };
}

function noSuspension(): PitwallError {
  return new PitwallError("unsupported", "the Firecracker driver does not suspend VMs yet: pause it, or stop it", {
    reason: "NO_SUSPENSION",
  });
}

const silence = "Firecracker's API did not answer, so the VMM was killed";

/** Asks until powerunit listens. */
async function openChannel(process: VmmProcess, uid: number, signal: AbortSignal): Promise<Duplex> {
  const path = `/proc/${process.pid}/root/${names.vsock}`;
  for (;;) {
    if (!isAlive(process)) throw new PitwallError("unavailable", "the VM's Firecracker is gone", { reason: "VMM_GONE" });
    try {
      await checkSocket(path, uid);
      return await dialVsock(path, guestPort, AbortSignal.any([signal, AbortSignal.timeout(dialLimitMs)]));
    } catch (error) {
      if (signal.aborted) throw new PitwallError("unavailable", "the guest does not answer", { reason: "GUEST_SILENT", cause: error });
      await systemClock.sleep(dialRestMs, signal).catch(() => undefined); // the loop looks at the signal
    }
  }
}
