// What is said of a VM: kept on disk first, then told.
import type { VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import type { MachineHost } from "./host.ts";
import type { JournalEntry } from "./journal.ts";

/** Besides what is said and the host's boot. */
export type Standing = Omit<JournalEntry, "report" | "bootId">;

export class Record {
  readonly #host: MachineHost;
  readonly #standing: () => Standing;
  #report: VmReport;
  #isUntold = false;
  #saving: Promise<void> = Promise.resolve();

  /** `standing` is asked at each writing. */
  constructor(host: MachineHost, report: VmReport, standing: () => Standing) {
    this.#host = host;
    this.#report = report;
    this.#standing = standing;
  }

  get report(): VmReport {
    return this.#report;
  }

  /** It could not be kept, and so nobody was told of it. */
  get isUntold(): boolean {
    return this.#isUntold;
  }

  async say(change: Partial<VmReport>): Promise<void> {
    const said = this.#change(change);
    this.#isUntold = true;
    await this.save();
    this.#isUntold = false;
    this.#host.onReport(said);
  }

  /** Of a VM whose journal is gone. */
  sayLast(change: Partial<VmReport>): void {
    this.#host.onReport(this.#change(change));
  }

  async save(): Promise<void> {
    const entry = { ...this.#standing(), report: this.#report, bootId: this.#host.bootId };
    this.#saving = this.#saving.catch(() => undefined).then(() => this.#host.journals.write(entry.assignment.vmId, entry));
    await this.#saving;
  }

  #change(change: Partial<VmReport>): VmReport {
    this.#report = { ...this.#report, ...change, observeTime: new Date(this.#host.clock.wallMs()) };
    return this.#report;
  }
}
