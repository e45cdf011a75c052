// What an earlier run of the agent has left of a VM.
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { Log } from "@pitwall/runtime";
import type { MachineHost } from "./host.ts";
import type { JournalEntry } from "./journal.ts";
import { isAsleep, isHeld } from "./reports.ts";
import type { Vmm } from "./vmm.ts";

export interface Recovered {
  readonly vmm: Vmm | undefined;
  /** All that it had in memory is on the disk. */
  readonly isKept: boolean;
}

/** Ends what was started and not written down. */
export async function killStrays(
  { processes, failpoints }: Pick<MachineHost, "processes" | "failpoints">,
  dir: string,
  vmId: string,
  log: Log,
): Promise<void> {
  for (const stray of processes.workingIn(dir)) {
    log.warn("killing a process that was started and not written down", { pid: stray.pid });
    await processes.kill(stray);
    await failpoints.at("rejoin.destroy", vmId);
  }
}

export async function recover(
  { driver, processes }: Pick<MachineHost, "driver" | "processes">,
  dir: string,
  { assignment, process, starting, report: { phase } }: JournalEntry,
): Promise<Recovered> {
  const isKept = isHeld(phase) && (await driver.isSuspended(dir));
  // One whose memory is gone from the disk has it: that is the VM, though nobody came to write it down.
  const woken = starting && isAsleep(phase) && !isKept ? processes.workingIn(dir)[0] : undefined;
  // Another driver's: this one knows nothing of it, and another VMM on the same disk would destroy that.
  if (process && process.driver !== driver.name) await processes.kill(process);
  const last = woken ? { driver: driver.name, ...woken } : process;
  const vmm = last && (await driver.adopt({ ...assignment, dir }, last));
  return { vmm, isKept: isKept && phase === Phase.PHASE_SUSPENDING };
}
