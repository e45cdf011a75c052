// One VM on this node: an actor that brings what is observed to what is desired, one step at a time.
//
//   PREPARING -> BOOTING -> RUNNING -> STOPPING -> STOPPED        FAILED from any of the first three
//   any -> DELETING -> GONE
//
// Only the loop in #run changes `#report`; everybody else sets what is wanted, or what happened, and wakes it.
import type { Duplex } from "node:stream";
import type { TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import { GuestState } from "@pitwall/proto/pitwall/v1/guest.ts";
import type { Assignment, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired, Health, Phase, type Exit } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError, messageChain, systemClock, toDuration, type Log, processesIn, signalProcess, waitForExit } from "@pitwall/runtime";
import { removeVmInitramfs } from "../host/initramfs.ts";
import { GuestWatch } from "./guest-watch.ts";
import { createJournal, removeJournal, writeJournal, type JournalEntry } from "./journal.ts";
import { noTimings, prepare, type Ingredients } from "./prepare.ts";
import type { Vmm, VmmDriver, VmmExit } from "./vmm.ts";

const graceMs = 10_000;
const dialLimitMs = 10_000;

/** What all machines of a node share. */
export interface MachineHost extends Ingredients {
  readonly driver: VmmDriver;
  readonly kernel: string;
  readonly bootId: string;
  /** From the start of the VMM to a guest that is ready. */
  readonly bootLimitMs: number;
  readonly log: Log;
  /** Called after each change, when it is on disk. */
  onReport(report: VmReport): void;
}

export class Machine {
  readonly #host: MachineHost;
  readonly #dir: string;
  readonly #log: Log;
  #wanted: Assignment;
  #report: VmReport;
  /** The generation whose start has come to an end, good or bad; it is not tried again. */
  #settled: bigint;
  #vmm: Vmm | undefined;
  #watch: GuestWatch | undefined;
  #exit: VmmExit | undefined;
  #starting = false;
  #stepAbort = new AbortController();
  #wake: () => void = () => undefined;
  #woken = false;
  #closed = false;
  #saving: Promise<void> = Promise.resolve();
  /** Of each image that it was told to boot from: the VMM may still have the one before. */
  readonly #leases: DisposableStack;
  readonly #done: Promise<void>;

  private constructor(host: MachineHost, dir: string, assignment: Assignment, kept: JournalEntry | undefined, leases: DisposableStack) {
    this.#host = host;
    this.#dir = dir;
    this.#log = host.log.child({ vm: assignment.vmId });
    this.#wanted = assignment;
    this.#leases = leases;
    this.#report = kept?.report ?? firstReport(assignment);
    const wasSettled =
      kept && settledPhases.has(kept.report.phase) && !(kept.report.phase === Phase.PHASE_RUNNING && kept.bootId !== host.bootId);
    this.#settled = wasSettled ? kept.report.generation : 0n;
    this.#done = this.#run(kept);
  }

  /** A VM that this node has never seen. Resolves when its journal is on disk. */
  static async create(host: MachineHost, dir: string, assignment: Assignment): Promise<Machine> {
    using leases = new DisposableStack();
    leases.use(host.images.lease(assignment.imageDigest));
    await createJournal(dir, { assignment, report: firstReport(assignment), process: undefined, starting: false, bootId: host.bootId });
    return new Machine(host, dir, assignment, undefined, leases.move());
  }

  /** A VM from the journal of an earlier run of the agent. */
  static restore(host: MachineHost, dir: string, entry: JournalEntry): Machine {
    const leases = new DisposableStack();
    leases.use(host.images.lease(entry.assignment.imageDigest));
    return new Machine(host, dir, entry.assignment, entry, leases);
  }

  get report(): VmReport {
    return this.#report;
  }

  get isGone(): boolean {
    return this.#report.phase === Phase.PHASE_GONE;
  }

  /** Takes a new wish. Older ones than the current one are ignored. */
  apply(assignment: Assignment): void {
    if (
      assignment.epoch < this.#wanted.epoch ||
      (assignment.epoch === this.#wanted.epoch && assignment.generation < this.#wanted.generation)
    )
      return;
    if (assignment.imageDigest !== this.#wanted.imageDigest) this.#leases.use(this.#host.images.lease(assignment.imageDigest));
    const turned = assignment.desired !== this.#wanted.desired;
    this.#wanted = assignment;
    if (turned) this.#stepAbort.abort(new PitwallError("race", "another wish came"));
    this.#rouse();
  }

  /** A byte stream into the guest. Throws `state` when it does not run, the guest's own status when it refuses. */
  async dial(target: TunnelTarget, signal: AbortSignal): Promise<Duplex> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(dialLimitMs)]);
    const guest = await this.#watch?.guest(limited);
    if (!guest) throw new PitwallError("state", "the VM does not run", { reason: "VM_NOT_RUNNING" });
    return guest.dial(target, limited);
  }

  /** Lets go of the VM, which runs on. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stepAbort.abort(new PitwallError("unavailable", "the agent stops"));
    this.#rouse();
    await this.#done;
    await this.#watch?.close();
  }

  #rouse(): void {
    this.#woken = true;
    this.#wake();
  }

  async #run(kept: JournalEntry | undefined): Promise<void> {
    if (kept) await this.#resume(kept).catch((error: unknown) => this.#log.error("a VM could not be adopted", { error }));
    while (!this.#closed && !this.isGone) {
      this.#woken = false;
      this.#stepAbort = new AbortController();
      try {
        await this.#step(this.#wanted, this.#stepAbort.signal);
      } catch (error) {
        // Even the journal may fail (a full disk): say it, and look again later.
        this.#log.error("a step failed", { error });
        if (!this.#stepAbort.signal.aborted) await systemClock.sleep(2_000);
        this.#woken = true;
      }
      if (this.isGone || this.#closed) return;
      if (!this.#woken) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  async #step(wanted: Assignment, signal: AbortSignal): Promise<void> {
    if (this.#exit) await this.#buryVmm(this.#exit);
    switch (wanted.desired) {
      case Desired.DESIRED_DELETED:
        return this.#remove(wanted);
      case Desired.DESIRED_STOPPED:
        return this.#stop(wanted);
      case Desired.DESIRED_RUNNING:
        return this.#start(wanted, signal);
      default:
        this.#log.warn("an assignment wants nothing that this agent knows", { desired: wanted.desired });
    }
  }

  /** After a restart of the agent: the same process again, or what became of it. */
  async #resume({ process, starting, report }: JournalEntry): Promise<void> {
    const known =
      process && (await this.#host.driver.adopt({ vmId: this.#wanted.vmId, epoch: this.#wanted.epoch, dir: this.#dir }, process));
    if (known) return this.#attach(known);
    if (starting) await this.#killStrays();
    else if (process && report.phase === Phase.PHASE_RUNNING && this.#settled !== 0n) {
      this.#exit = { code: null, signal: null, tail: "it ended while the agent was away" };
    }
  }

  async #start(wanted: Assignment, signal: AbortSignal): Promise<void> {
    if (!this.#vmm) {
      if (this.#settled >= wanted.generation) return;
      try {
        await this.#boot(wanted, signal);
      } catch (error) {
        if (signal.aborted) return;
        return this.#fail(wanted, error);
      }
    }
    if (this.#report.phase !== Phase.PHASE_RUNNING) await this.#awaitReady(wanted, signal);
    else if (this.#report.generation < wanted.generation) await this.#say({ generation: wanted.generation });
    if (this.#report.phase === Phase.PHASE_RUNNING) {
      this.#settled = wanted.generation;
      this.#hear(); // the service may have ended before this
    }
  }

  async #boot(wanted: Assignment, signal: AbortSignal): Promise<void> {
    const { spec, generation, epoch } = wanted;
    if (!spec) throw new PitwallError("internal", "an assignment came without a spec");
    await this.#say({
      generation,
      epoch,
      phase: Phase.PHASE_PREPARING,
      reason: "",
      message: "",
      serviceExit: undefined,
      restartCount: 0,
      health: Health.HEALTH_UNSPECIFIED,
      timings: noTimings,
    });
    const isNew = this.#report.sshHostKey === "";
    const { base, disk, initramfs, sshHostKey, timings } = await prepare(this.#host, this.#dir, wanted, spec, isNew, signal);
    this.#starting = true;
    await this.#say({ phase: Phase.PHASE_BOOTING, sshHostKey, timings });
    const vmm = await this.#host.driver.start({
      vmId: wanted.vmId,
      epoch,
      dir: this.#dir,
      kernel: this.#host.kernel,
      initramfs,
      base,
      disk,
      vcpus: Math.max(1, Math.ceil(spec.cpuMillis / 1000)),
      memBytes: Number(spec.memBytes),
    });
    this.#starting = false;
    this.#attach(vmm);
    await this.#save();
    await removeVmInitramfs(initramfs);
  }

  async #awaitReady(wanted: Assignment, signal: AbortSignal): Promise<void> {
    const started = systemClock.monotonicMs();
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(this.#host.bootLimitMs)]);
    let firstWord: number | undefined;
    while (!this.#exit) {
      const state = this.#watch?.said?.state;
      if (state !== undefined) firstWord ??= systemClock.monotonicMs();
      if (state === GuestState.GUEST_STATE_READY) {
        const boot = toDuration((firstWord ?? started) - started);
        const timings = {
          ...(this.#report.timings ?? noTimings),
          boot,
          ready: toDuration(systemClock.monotonicMs() - (firstWord ?? started)),
        };
        return this.#say({ phase: Phase.PHASE_RUNNING, generation: wanted.generation, timings });
      }
      if (deadline.aborted) break;
      await this.#nextEvent(deadline);
    }
    if (signal.aborted || this.#exit) return this.#rouse();
    await this.#vmm?.kill();
    const exit = await this.#vmm?.exited;
    await this.#fail(
      wanted,
      new PitwallError("deadline", `the guest was not ready within ${this.#host.bootLimitMs / 1000} s:\n${exit?.tail ?? ""}`, {
        reason: "BOOT_TIMEOUT",
      }),
    );
  }

  async #nextEvent(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
  }

  #attach(vmm: Vmm): void {
    this.#vmm = vmm;
    this.#exit = undefined;
    this.#watch = new GuestWatch(vmm, () => this.#onWord(), this.#log);
    void vmm.exited.then((exit) => {
      if (this.#vmm !== vmm) return;
      this.#exit = exit;
      this.#rouse();
    });
  }

  #onWord(): void {
    if (this.#report.phase === Phase.PHASE_RUNNING) this.#hear();
    this.#rouse();
  }

  /** Reports what has become of the image's process, when that is news. */
  #hear(): void {
    const said = this.#watch?.said;
    if (!said) return;
    const { serviceExit = this.#report.serviceExit, restartCount, health } = said;
    const known = this.#report;
    if (isSameExit(serviceExit, known.serviceExit) && restartCount === known.restartCount && health === known.health) return;
    this.#say({ serviceExit, restartCount, health }).catch((error: unknown) => this.#log.error("a report could not be kept", { error }));
  }

  async #stop(wanted: Assignment): Promise<void> {
    const { generation } = wanted;
    if (this.#vmm) {
      await this.#say({ phase: Phase.PHASE_STOPPING, generation, reason: "", message: "" });
      await this.#shutDown(this.#vmm);
      await this.#releaseVmm();
    }
    this.#settled = generation;
    if (this.#report.phase !== Phase.PHASE_STOPPED || this.#report.generation !== generation) {
      await this.#say({ phase: Phase.PHASE_STOPPED, generation, reason: "", message: "" });
    }
  }

  async #shutDown(vmm: Vmm): Promise<void> {
    const signal = AbortSignal.timeout(graceMs + 5_000);
    const guest = await this.#watch?.guest(AbortSignal.timeout(2_000));
    await guest?.control
      .shutdown({ grace: toDuration(graceMs) }, { signal })
      .catch((error: unknown) => this.#log.debug("shutdown was not answered", { error }));
    const timer = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    if (guest) await Promise.race([vmm.exited, timer]);
    await vmm.kill();
  }

  async #remove({ generation }: Assignment): Promise<void> {
    await this.#say({ phase: Phase.PHASE_DELETING, generation, reason: "", message: "" });
    await this.#vmm?.kill();
    await this.#releaseVmm();
    await this.#killStrays();
    await removeJournal(this.#dir);
    this.#leases.dispose();
    this.#report = { ...this.#report, phase: Phase.PHASE_GONE, observeTime: new Date() };
    this.#host.onReport(this.#report);
  }

  /** The VMM ended without our doing. */
  async #buryVmm(exit: VmmExit): Promise<void> {
    const said = this.#watch?.said;
    await this.#releaseVmm();
    this.#settled = this.#report.generation;
    if (said?.state === GuestState.GUEST_STATE_STOPPING) {
      return this.#say({ phase: Phase.PHASE_STOPPED, reason: "GUEST_SHUTDOWN", message: "the guest shut itself down" });
    }
    const failed = said?.state === GuestState.GUEST_STATE_FAILED;
    const how = exit.signal === null ? (exit.code === null ? "" : ` with code ${exit.code}`) : ` by ${exit.signal}`;
    const message = failed ? `the guest failed: ${said.message}` : `the VM's process ended${how}:\n${exit.tail}`;
    await this.#say({ phase: Phase.PHASE_FAILED, reason: failed ? "GUEST_FAILED" : "VMM_EXITED", message: message.slice(0, 2048) });
  }

  async #releaseVmm(): Promise<void> {
    await this.#watch?.close();
    this.#watch = undefined;
    this.#vmm = undefined;
    this.#exit = undefined;
  }

  async #fail({ generation }: Assignment, error: unknown): Promise<void> {
    this.#starting = false;
    await this.#vmm?.kill();
    await this.#releaseVmm();
    this.#settled = generation;
    this.#log.warn("a VM failed", { error });
    const reason = error instanceof PitwallError ? error.reason : "INTERNAL";
    const message = error instanceof PitwallError ? error.message : `the node met an error: ${messageChain(error)}`;
    await this.#say({ phase: Phase.PHASE_FAILED, reason, message: message.slice(0, 2048), generation });
  }

  async #killStrays(): Promise<void> {
    for (const stray of processesIn(this.#dir)) {
      this.#log.warn("killing a process that was started and not written down", { pid: stray.pid });
      signalProcess(stray, "SIGKILL");
      await waitForExit(stray);
    }
    this.#starting = false;
  }

  async #say(change: Partial<VmReport>): Promise<void> {
    this.#report = { ...this.#report, ...change, observeTime: new Date() };
    const said = this.#report;
    await this.#save();
    this.#host.onReport(said);
  }

  async #save(): Promise<void> {
    if (this.isGone) return;
    const entry = {
      assignment: this.#wanted,
      report: this.#report,
      process: this.#vmm?.process,
      starting: this.#starting,
      bootId: this.#host.bootId,
    };
    this.#saving = this.#saving.catch(() => undefined).then(() => writeJournal(this.#dir, entry));
    await this.#saving;
  }
}

const settledPhases: ReadonlySet<Phase> = new Set([Phase.PHASE_RUNNING, Phase.PHASE_STOPPED, Phase.PHASE_FAILED]);

function firstReport({ vmId, generation, epoch }: Assignment): VmReport {
  const service = { serviceExit: undefined, restartCount: 0, health: Health.HEALTH_UNSPECIFIED };
  const rest = { reason: "", message: "", ...service, sshHostKey: "", timings: noTimings, observeTime: new Date() };
  return { vmId, generation, epoch, phase: Phase.PHASE_PLACED, ...rest };
}

function isSameExit(a: Exit | undefined, b: Exit | undefined): boolean {
  return a?.code === b?.code && a?.signal === b?.signal && a?.outOfMemory === b?.outOfMemory;
}
