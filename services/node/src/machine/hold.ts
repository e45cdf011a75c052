// Guests that stand still: in memory, or on the disk with all that they had in memory. What a machine does to get there and back.
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError, type Log } from "@pitwall/runtime";
import type { MachineHost } from "./host.ts";
import type { Live } from "./live.ts";
import type { Record } from "./record.ts";
import { failure, isAsleep, isHeld, leaseLost } from "./reports.ts";

export interface Holder {
  readonly host: Pick<MachineHost, "driver" | "failpoints">;
  readonly dir: string;
  readonly live: Live;
  readonly record: Record;
  readonly log: Log;
}

const notSuspended = "SUSPEND_FAILED";
const noReason = { reason: "", message: "" };

/** A suspended VM is about to go on. */
export const resuming = { phase: Phase.PHASE_RESUMING, ...noReason };

export function memoryGone(): PitwallError {
  const message = "what the VM had in memory is gone: start it, and it boots from its disk";
  return new PitwallError("unavailable", message, { reason: "MEMORY_LOST" });
}

/** Whatever comes of it is said. */
export async function pause({ live, record }: Holder, generation: bigint): Promise<void> {
  if (record.report.phase === Phase.PHASE_PAUSED && record.report.generation === generation) return;
  if (!live.vmm) return haveNone(record, generation);
  await live.vmm.pause();
  await record.say({ generation, phase: Phase.PHASE_PAUSED, ...noReason });
}

/** Whatever comes of it is said, but for an end of the VMM. */
export async function suspend({ host, dir, live, record, log }: Holder, generation: bigint): Promise<void> {
  if (record.report.generation === generation && (record.report.phase === Phase.PHASE_SUSPENDED || record.report.reason === notSuspended))
    return;
  const { vmm } = live;
  if (!vmm && !(isHeld(record.report.phase) && (await host.driver.isSuspended(dir)))) return haveNone(record, generation);
  if (vmm) {
    await record.say({ phase: Phase.PHASE_SUSPENDING, generation, ...noReason });
    await host.failpoints.at("suspend.node.journalled", record.report.vmId);
    try {
      await vmm.suspend();
    } catch (error) {
      if (live.exit) return;
      log.warn("a VM was not suspended", { error });
      return record.say({ ...failure(error), phase: Phase.PHASE_RUNNING, reason: notSuspended });
    }
    await live.watch?.done;
    await live.release();
  }
  await record.say({ phase: Phase.PHASE_SUSPENDED, generation, ...noReason });
}

/** A guest that stands still, whatever the agent was about when it was killed. */
export async function goOn({ host, dir, live, record }: Holder, generation: bigint): Promise<void> {
  await host.driver.forget(dir); // from its next instruction on it is not as it was
  await live.vmm?.resume();
  if (!isAsleep(record.report.phase)) await record.say({ phase: Phase.PHASE_RUNNING, generation, ...noReason });
}

/** There is no guest that could be held: it failed before, or went with its host. */
async function haveNone(record: Record, generation: bigint): Promise<void> {
  const { phase, reason } = record.report;
  // One that was ended for want of a lease would be started again; this one is not to run.
  const isOver = phase === Phase.PHASE_STOPPED || (phase === Phase.PHASE_FAILED && reason !== leaseLost.reason);
  await record.say({ generation, ...(!isOver && failure(memoryGone())) });
}
