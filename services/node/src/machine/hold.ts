// Guests that stand still: in memory, or on the disk with all that they had in memory. What a machine does to get there and back.
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError, type Log } from "@pitwall/runtime";
import type { MachineHost } from "./host.ts";
import type { Live } from "./live.ts";
import type { Record } from "./record.ts";
import { failure, isAsleep, isHeld, leaseLost } from "./reports.ts";

export interface Holder {
  readonly host: Pick<MachineHost, "driver" | "failpoints" | "clock">;
  readonly dir: string;
  readonly live: Live;
  readonly record: Record;
  readonly log: Log;
}

const wakeRetryMs = 10_000;
const notSuspended = "SUSPEND_FAILED";
const noReason = { reason: "", message: "" };

/** A suspended VM is about to go on. */
export const resuming = { phase: Phase.PHASE_RESUMING, ...noReason };

/** Whether a VM was to wake, and can still. */
export async function canWake({ host, dir, record }: Holder): Promise<boolean> {
  return isAsleep(record.report.phase) && (await host.driver.isSuspended(dir));
}

/** A waking did not work, and what the VM had in memory is still there. Resolves when it is time to try again, or something else is wanted. */
export async function notWoken({ host, record, log }: Holder, error: unknown, signal: AbortSignal): Promise<void> {
  log.warn("a VM was not woken", { error });
  await record.say({ ...failure(error), phase: Phase.PHASE_SUSPENDED });
  await host.clock.sleep(wakeRetryMs, signal).catch(() => undefined);
}

export function memoryGone(): PitwallError {
  const message = "what the VM had in memory is gone: start it, and it boots from its disk";
  return new PitwallError("unavailable", message, { reason: "MEMORY_LOST" });
}

/**
 * Whatever comes of it is said. One that was suspended was to go on before it was to be paused, and had not woken yet: `wake` is tried first.
 * False: it has not woken, and may later.
 */
export async function pause(holder: Holder, generation: bigint, wake: () => Promise<void>): Promise<boolean> {
  const { live, record } = holder;
  if (record.report.phase === Phase.PHASE_PAUSED && record.report.generation === generation) return true;
  if (!live.vmm) {
    if (!(await canWake(holder))) {
      await haveNone(holder, generation);
      return true;
    }
    await wake();
  }
  if (!live.vmm) return false;
  await live.vmm.pause();
  await record.say({ generation, phase: Phase.PHASE_PAUSED, ...noReason });
  return true;
}

/** Whatever comes of it is said, but for an end of the VMM. False: the signal has aborted, and the guest runs on. */
export async function suspend(holder: Holder, generation: bigint, signal: AbortSignal): Promise<boolean> {
  const { host, live, record, log } = holder;
  const { vmm } = live;
  const isDone = record.report.phase === Phase.PHASE_SUSPENDED || (vmm && record.report.reason === notSuspended);
  if (record.report.generation === generation && isDone) return true;
  if (!vmm) {
    await haveNone(holder, generation);
    return true;
  }
  await record.say({ phase: Phase.PHASE_SUSPENDING, generation, ...noReason });
  await host.failpoints.at("suspend.node.journalled", record.report.vmId);
  try {
    await vmm.suspend(signal);
  } catch (error) {
    if (live.exit) return true;
    if (signal.aborted) return false; // what came instead goes on from SUSPENDING
    log.warn("a VM was not suspended", { error });
    await record.say({ ...failure(error), phase: Phase.PHASE_RUNNING, reason: notSuspended });
    return true;
  }
  await live.watch?.done;
  await live.release();
  await record.say({ phase: Phase.PHASE_SUSPENDED, generation, ...noReason });
  return true;
}

/** A guest that stands still, whatever the agent was about when it was killed. */
export async function goOn({ host, dir, live, record }: Holder, generation: bigint): Promise<void> {
  await host.driver.forget(dir); // from its next instruction on it is not as it was
  await live.vmm?.resume();
  void live.watch?.setTime(); // its clock may have stood still, and its channel was there all the time
  if (!isAsleep(record.report.phase)) await record.say({ phase: Phase.PHASE_RUNNING, generation, ...noReason });
}

/** What it had in memory is on the disk, or there is no guest that could be held: it failed before, or went with its host. */
async function haveNone({ host, dir, record }: Holder, generation: bigint): Promise<void> {
  const { phase, reason } = record.report;
  if (isHeld(phase) && (await host.driver.isSuspended(dir))) return record.say({ generation, phase: Phase.PHASE_SUSPENDED, ...noReason });
  // One that was ended for want of a lease would be started again; this one is not to run.
  const isOver = phase === Phase.PHASE_STOPPED || (phase === Phase.PHASE_FAILED && reason !== leaseLost.reason);
  await record.say({ generation, ...(!isOver && failure(memoryGone())) });
}
