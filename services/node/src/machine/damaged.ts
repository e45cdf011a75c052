// A VM whose journal cannot be read: it is in the inventory, so that nobody takes it for lost and begins it anew elsewhere, and nothing is
// started on its disk here. What works in its folder runs on, unheard, until somebody decides that knows the VM:
//
//   the controller wants it stopped, or it may be started elsewhere   what works there is ended; the disk stays
//   the lease is lost                                                 the same, unless the controller has said that the VM holds
//   the controller wants it deleted, or has it nowhere                all of it goes
//   an administrator puts the journal right and starts the agent      the VM is as it was
import type { Assignment, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { Log } from "@pitwall/runtime";
import type { MachineHost } from "./host.ts";
import { killStrays } from "./recover.ts";
import { blankReport, goneReport, isOlder, isReschedulable, isSameWish, type Version } from "./reports.ts";

const damagedJournal = {
  phase: Phase.PHASE_FAILED,
  reason: "JOURNAL_DAMAGED",
  message:
    "the node cannot read its journal of the VM and touches nothing of it: delete the VM, or have the node's administrator put the journal right",
};
const retryMs = 2_000;

export class DamagedMachine {
  readonly #host: MachineHost;
  readonly #vmId: string;
  readonly #log: Log;
  #wanted: Assignment | undefined;
  #report: VmReport;
  #work: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(host: MachineHost, vmId: string) {
    [this.#host, this.#vmId] = [host, vmId];
    this.#log = host.log.child({ vm: vmId });
    this.#report = this.#said({ epoch: 0n, generation: 0n });
  }

  /** Until the controller has said which placement it is of, it speaks of none. */
  get report(): VmReport {
    return this.#report;
  }

  apply(assignment: Assignment, isQuestion: boolean): void {
    const known = this.#wanted;
    if (known && isOlder(assignment, known)) return;
    if (known && isSameWish(assignment, known) && !isQuestion) return;
    this.#wanted = assignment;
    this.#work = this.#work.then(() => this.#settle(assignment));
  }

  /** Resolves when nothing of it runs any more that might be started elsewhere. */
  async yieldUp(): Promise<void> {
    if (this.#wanted && !isReschedulable(this.#wanted.spec)) return;
    await this.#end();
  }

  /** Nobody listens to its guest. */
  async setTime(): Promise<void> {}

  async close(): Promise<void> {
    this.#closed = true;
    await this.#work;
  }

  async #settle(wanted: Assignment): Promise<void> {
    while (!this.#closed && wanted === this.#wanted) {
      try {
        if (wanted.desired === Desired.DESIRED_DELETED) return await this.#remove(wanted);
        if (wanted.desired === Desired.DESIRED_STOPPED || isReschedulable(wanted.spec)) await this.#end();
        this.#report = this.#said(wanted);
        return this.#host.onReport(this.#report);
      } catch (error) {
        this.#log.error("a VM whose journal is damaged could not be dealt with; it is tried again", { error });
        await this.#host.clock.sleep(retryMs);
      }
    }
  }

  async #end(): Promise<void> {
    await killStrays(this.#host, this.#host.journals.dirOf(this.#vmId), this.#vmId, this.#log);
    await this.#host.network?.disconnect(this.#vmId);
    this.#host.fence.release(this.#vmId);
  }

  async #remove(wanted: Assignment): Promise<void> {
    await this.#end();
    await this.#host.journals.remove(this.#vmId);
    this.#report = goneReport(wanted, this.#host.clock.wallMs());
    this.#host.onReport(this.#report);
  }

  #said({ epoch, generation }: Version): VmReport {
    return { ...blankReport({ vmId: this.#vmId, epoch, generation }, this.#host.clock.wallMs()), ...damagedJournal };
  }
}
