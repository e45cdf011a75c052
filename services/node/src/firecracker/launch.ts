// From nothing to a VMM that runs, and back: each thing that a VM has on the host is made in an order in which all of it can be found again.
//
//   lease of a uid -> cgroup -> jail -> VMM, checked -> VM made -> VM started, checked again
//   and back: cgroup with all that is in it -> jail -> lease
//
// The lease is a file that names the VM. Whoever finds one after a crash knows from it where the rest can be; removing what is not there is
// no error.
import { spawn } from "node:child_process";
import { closeSync, constants, openSync } from "node:fs";
import { rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { identify, isAlive, PitwallError, systemClock, type Failpoints, type Log, type ProcessIdentity } from "@pitwall/runtime";
import { openApi, type Api } from "./api.ts";
import { configure, consoleBytesPerS, diskBytesPerS, jailerCommand, processLimits, type GuestSpec } from "./arguments.ts";
import { makeCgroup, membersOf, removeCgroup } from "./cgroup.ts";
import { checkConfinement, type Confinement } from "./confinement.ts";
import { jailId, jailRoot, makeJail, names, removeJail, type JailFiles } from "./jail.ts";
import { openPipeTail, type PipeTail } from "./pipe-tail.ts";
import type { Programs } from "./programs.ts";
import type { UidLease, Uids } from "./uids.ts";

const startLimitMs = 10_000;
const pollMs = 5;
const consoleBytes = 64 * 1_024;
const logBytes = 4 * 1_024;
const logBytesPerS = 64 * 1_024;
const mib = 2 ** 20;
const removeTries = 3;
const removeRestMs = 200;

/** What the driver has of its host. */
export interface Ground {
  readonly programs: Programs;
  readonly uids: Uids;
  /** The folder of VMs' cgroups. */
  readonly cgroups: string;
  readonly tscKhz: number;
  readonly failpoints: Failpoints;
  readonly log: Log;
  /** More arguments for Firecracker; a node has none. */
  readonly extra: readonly string[];
}

/** What the agent has of one VMM. */
export interface Held extends Disposable {
  readonly lease: UidLease;
  readonly process: ProcessIdentity;
  readonly api: Api;
  /** Last words: what the VMM logged, then what the guest wrote on its console. */
  tail(): string;
}

export interface Guest extends GuestSpec {
  readonly files: JailFiles;
}

/** Starts a VM under a lease that has nothing yet. On failure nothing is left; the error says what the VMM said. */
export async function launch(ground: Ground, lease: UidLease, guest: Guest): Promise<Held> {
  const { failpoints } = ground;
  let log: PipeTail | undefined;
  try {
    await failpoints.at("jail.leased", lease.vmId);
    await makeCgroup(ground.cgroups, jailId(lease), { ...guest, io: { dir: lease.dir, bytesPerS: 2 * diskBytesPerS } });
    await makeJail(lease, guest.files);
    await failpoints.at("jail.made", lease.vmId);
    log = openPipeTail(join(lease.dir, "log"), logBytes, logBytesPerS);
    return await run(ground, lease, guest, log);
  } catch (error) {
    const said = log?.text() ?? "";
    log?.[Symbol.dispose]();
    await clear(ground, lease);
    if (error instanceof PitwallError && error.fault !== "unavailable") throw error;
    throw new PitwallError(
      "unavailable",
      `Firecracker did not start: ${said || (error instanceof Error ? error.message : String(error))}`,
      {
        reason: "VMM_START_FAILED",
        cause: error,
      },
    );
  }
}

async function run(ground: Ground, lease: UidLease, guest: Guest, log: PipeTail): Promise<Held> {
  const { failpoints } = ground;
  await using stack = new AsyncDisposableStack();
  const console = stack.use(openPipeTail(join(lease.dir, "console"), consoleBytes, consoleBytesPerS));
  const confinement = await confinementOf(ground, lease, guest);
  const process = await spawnJailed(ground, lease, Number(confinement.limits["Max file size"]));
  await failpoints.at("create.vmm.spawned", lease.vmId);
  const api = stack.use(openApi(`/proc/${process.pid}/root/${names.api}`, lease.uid));
  await untilServing(ground, lease, process, api);
  await checkConfinement(process.pid, confinement, "api");
  await failpoints.at("jail.confined", lease.vmId);
  await configure(api.put, guest, ground.tscKhz);
  await api.put("/actions", { action_type: "InstanceStart" });
  await checkConfinement(process.pid, confinement, "all");
  await failpoints.at("create.vmm.configured", lease.vmId);
  await rm(join(jailRoot(lease), names.initramfs), { force: true }); // it holds secrets, and has been read
  stack.move();
  return heldBy(lease, process, { log, console, api });
}

async function confinementOf(ground: Ground, lease: UidLease, { files, memBytes }: Guest): Promise<Confinement> {
  // The longest file that it may write is the VM's disk, or a copy of its memory.
  const diskBytes = files.disk === undefined ? 0 : (await stat(files.disk)).size;
  const fileBytes = Math.max(diskBytes, memBytes + mib);
  return { uid: lease.uid, cgroup: `/${cgroupPath(ground, lease)}`, root: jailRoot(lease), limits: processLimits(fileBytes) };
}

/** As the jailer wants it: below the root of all cgroups. */
const cgroupPath = ({ cgroups }: Ground, lease: UidLease): string => join(basename(cgroups), jailId(lease));

/** The jailer ends once it has started Firecracker, which is then alone in its cgroup. */
async function spawnJailed(ground: Ground, lease: UidLease, fileBytes: number): Promise<ProcessIdentity> {
  const { programs, extra } = ground;
  const [program, ...args] = jailerCommand(programs, lease, { cgroup: cgroupPath(ground, lease), fileBytes, extra });
  // Opened for it alone: what a child has as its output is made to wait, and with it whoever shares it.
  const output = openSync(join(lease.dir, names.log), constants.O_RDWR | constants.O_NONBLOCK);
  const jailer = spawn(program, args, { cwd: lease.dir, detached: true, stdio: ["ignore", output, output] });
  closeSync(output);
  const code = await new Promise<number | null>((resolve, reject) => jailer.once("exit", resolve).once("error", reject));
  if (code !== 0) throw new Error(`the jailer ended with ${code ?? "a signal"}`);
  const [pid, ...others] = await membersOf(ground.cgroups, jailId(lease));
  const identity = pid === undefined ? undefined : identify(pid);
  if (identity === undefined) throw new Error("it ended at once");
  if (others.length > 0) throw new Error("more than one process is in its cgroup");
  return identity;
}

/** Resolves once it answers, and as the one that was started. */
async function untilServing({ programs }: Ground, lease: UidLease, process: ProcessIdentity, api: Api): Promise<void> {
  const deadline = systemClock.monotonicMs() + startLimitMs;
  for (;;) {
    const said = await api.describe().catch((error: unknown) => {
      if (!isAlive(process)) throw new Error("it ended at once", { cause: error });
      if (systemClock.monotonicMs() > deadline) throw error;
      return undefined;
    });
    if (said === undefined) {
      await systemClock.sleep(pollMs);
      continue;
    }
    const isIt = said.id === jailId(lease) && said.state === "Not started" && said.vmm_version === programs.version;
    if (!isIt) throw new PitwallError("denied", "another Firecracker answers than the one that was started", { reason: "VMM_UNCONFINED" });
    return;
  }
}

/** A VMM that an earlier agent started. */
export function hold(lease: UidLease, process: ProcessIdentity): Held {
  const log = openPipeTail(join(lease.dir, "log"), logBytes, logBytesPerS);
  const console = openPipeTail(join(lease.dir, "console"), consoleBytes, consoleBytesPerS);
  const api = openApi(`/proc/${process.pid}/root/${names.api}`, lease.uid);
  return heldBy(lease, process, { log, console, api });
}

function heldBy(
  lease: UidLease,
  process: ProcessIdentity,
  { log, console, api }: { readonly log: PipeTail; readonly console: PipeTail; readonly api: Api },
): Held {
  return {
    lease,
    process,
    api,
    tail: () => [log.text(), console.text()].filter(Boolean).join("\n"),
    [Symbol.dispose]() {
      for (const part of [log, console, api]) part[Symbol.dispose]();
    },
  };
}

/** Ends whatever a VM has on the host, and then the lease. Tried again when it does not work at once; throws the last error. */
export async function clear({ cgroups, uids, failpoints }: Ground, lease: UidLease): Promise<void> {
  const steps = [
    async () => {
      await removeCgroup(cgroups, jailId(lease));
      await failpoints.at("jail.empty", lease.vmId);
    },
    async () => {
      await removeJail(lease);
      await failpoints.at("jail.gone", lease.vmId);
    },
    () => uids.release(lease),
  ];
  for (const step of steps) await repeatedly(step);
}

async function repeatedly(step: () => Promise<void>): Promise<void> {
  for (let tried = 1; ; tried++) {
    try {
      return await step();
    } catch (error) {
      if (tried === removeTries) throw error;
      await systemClock.sleep(removeRestMs);
    }
  }
}
