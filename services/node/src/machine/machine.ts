// One VM on this node: an actor that brings what is observed to what is desired, one step at a time.
//
//   PREPARING -> BOOTING -> RUNNING -> STOPPING -> STOPPED        FAILED from any of the first three
//   RUNNING <-> PAUSED    RUNNING, PAUSED -> SUSPENDING -> SUSPENDED -> RESUMING -> RUNNING
//   any -> DELETING -> GONE
//
// Only the loop in #run changes `#report`; everybody else sets what is wanted, or what happened, and wakes it.
import type { Duplex } from "node:stream";
import type { TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import type { Assignment, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError, planted, type Log, type StepName } from "@pitwall/runtime";
import { awaitReady } from "./await-ready.ts";
import { Bell } from "./bell.ts";
import { canWake, goOn, memoryGone, notWoken, pause, resuming, suspend, type Holder } from "./hold.ts";
import type { MachineHost } from "./host.ts";
import { lacksSecret, type JournalEntry, type VmSize } from "./journal.ts";
import { Live } from "./live.ts";
import { Record, type Standing } from "./record.ts";
import { killStrays, recover } from "./recover.ts";
import {
  afterExit,
  bootTimeout,
  failure,
  firstReport,
  hasSettled,
  isAsleep,
  isHeld,
  isOlder,
  isReschedulable,
  isSameWish,
  isUp,
  lastStart,
  leaseLost,
  preparing,
  serviceNews,
  upPhases,
  upTimings,
} from "./reports.ts";
import { shutDown } from "./shut-down.ts";
import { guardRunning, heedRules, networkFor, sizeOf, startVmm } from "./start-vmm.ts";
import type { Vmm, VmmExit } from "./vmm.ts";

const retryMs = 2_000;

export class Machine {
  readonly #host: MachineHost;
  readonly #dir: string;
  readonly #log: Log;
  #kept: JournalEntry | undefined; // nothing is done before it is adopted, but a removal, which ends all that works in the VM's folder
  #wanted: Assignment;
  readonly #record: Record;
  /** The generation whose start has come to an end, good or bad; it is not tried again. */
  #settled: bigint;
  /** The generation that the VMM was started for. */
  #booted: bigint;
  #size: VmSize | undefined;
  readonly #live: Live;
  #starting = false;
  #booting: Promise<void> | undefined;
  /** The lease was lost and the VM ended for it, or the host was off: it waits for a session in which the controller still wants it here. */
  #isYielded = false;
  #stepAbort = new AbortController();
  readonly #bell = new Bell();
  #closed = false;
  /** Of each image that it was told to boot from: the VMM may still have the one before. */
  readonly #leases: DisposableStack;
  readonly #done: Promise<void>;

  private constructor(host: MachineHost, assignment: Assignment, kept: JournalEntry | undefined, leases: DisposableStack) {
    [this.#host, this.#dir] = [host, host.journals.dirOf(assignment.vmId)];
    this.#log = host.log.child({ vm: assignment.vmId });
    this.#wanted = assignment;
    [this.#leases, this.#kept] = [leases, kept];
    this.#live = new Live(host, assignment.vmId, this.#log, { onWord: () => this.#onWord(), onExit: () => this.#bell.ring() });
    this.#record = new Record(host, kept?.report ?? firstReport(assignment, host.clock.wallMs()), () => this.#standing);
    this.#settled = kept && hasSettled(kept, host.bootId) ? kept.report.generation : 0n;
    [this.#booted, this.#size] = [kept?.booted ?? 0n, kept?.size];
    this.#isYielded = kept !== undefined && (kept.report.reason === leaseLost.reason || kept.bootId !== host.bootId);
    this.#done = this.#run();
  }

  /** A VM that this node has never seen. Resolves when its journal is on disk. */
  static async create(host: MachineHost, assignment: Assignment): Promise<Machine> {
    using leases = new DisposableStack();
    leases.use(host.ingredients.lease(assignment.imageDigest));
    const report = firstReport(assignment, host.clock.wallMs());
    const entry = { assignment, report, process: undefined, booted: 0n, starting: false, bootId: host.bootId };
    await host.journals.write(assignment.vmId, entry);
    await host.failpoints.at("create.node.journalled", assignment.vmId);
    return new Machine(host, assignment, undefined, leases.move());
  }

  /** A VM from the journal of an earlier run of the agent. */
  static restore(host: MachineHost, entry: JournalEntry): Machine {
    const leases = new DisposableStack();
    leases.use(host.ingredients.lease(entry.assignment.imageDigest));
    return new Machine(host, entry.assignment, entry, leases);
  }

  get report(): VmReport {
    return this.#report;
  }

  get #report(): VmReport {
    return this.#record.report;
  }

  get #holder(): Holder {
    return { host: this.#host, dir: this.#dir, live: this.#live, record: this.#record, log: this.#log };
  }

  get #standing(): Standing {
    const starting = this.#starting && !planted("journal-after-effect");
    return { assignment: this.#wanted, booted: this.#booted, size: this.#size, process: this.#live.vmm?.process, starting };
  }

  get #isGone(): boolean {
    return this.#report.phase === Phase.PHASE_GONE;
  }

  /** Takes a new wish. Older ones than the current one are ignored; the current one once more is answered if it is a question. */
  apply(assignment: Assignment, isQuestion: boolean): void {
    if (isOlder(assignment, this.#wanted) && !planted("skip-generation-check")) return;
    if (assignment.imageDigest !== this.#wanted.imageDigest) this.#leases.use(this.#host.ingredients.lease(assignment.imageDigest));
    const turned = assignment.desired !== this.#wanted.desired || assignment.restartGeneration > this.#wanted.restartGeneration;
    if (isQuestion && isSameWish(assignment, this.#wanted)) this.#host.onReport(this.#report);
    this.#wanted = assignment;
    if (this.#mayRun()) this.#isYielded = false;
    if (turned) this.#stepAbort.abort(new PitwallError("race", "another wish came"));
    this.#bell.ring();
  }

  dial(target: TunnelTarget, signal: AbortSignal): Promise<Duplex> {
    return this.#live.dial(target, signal);
  }

  /** The lease is lost: a VM that may be started elsewhere ends here. Resolves when its VMM is gone. */
  async yieldUp(): Promise<void> {
    if (!isReschedulable(this.#wanted.spec) || this.#isGone) return;
    this.#isYielded = true;
    this.#stepAbort.abort(new PitwallError("unavailable", "the lease is lost"));
    await this.#booting;
    await this.#live.vmm?.kill();
    this.#bell.ring();
  }

  /** The host's clock has jumped, or it is time to look. */
  async setTime(): Promise<void> {
    await this.#live.watch?.setTime();
  }

  /** Lets go of the VM, which runs on. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stepAbort.abort(new PitwallError("unavailable", "the agent stops"));
    this.#bell.ring();
    await this.#done;
    await this.#live.watch?.close();
  }

  async #run(): Promise<void> {
    while (!this.#closed && !this.#isGone) {
      this.#bell.hush();
      this.#stepAbort = new AbortController();
      try {
        await this.#step(this.#wanted, this.#stepAbort.signal);
      } catch (error) {
        // Even the journal may fail (a full disk): say it, and look again later.
        this.#log.error("a step failed", { error });
        if (!this.#stepAbort.signal.aborted) await this.#host.clock.sleep(retryMs);
        this.#bell.ring();
      }
      if (this.#isGone || this.#closed) return;
      await this.#bell.heard();
    }
  }

  async #step(wanted: Assignment, signal: AbortSignal): Promise<void> {
    if (this.#record.isUntold) await this.#say({});
    if (this.#kept && wanted.desired !== Desired.DESIRED_DELETED) await this.#resume(this.#kept);
    this.#kept = undefined;
    if (this.#live.exit) await this.#buryVmm(this.#live.exit);
    if (this.#live.vmm) await heedRules(this.#host, wanted, () => this.#save());
    switch (wanted.desired) {
      case Desired.DESIRED_DELETED:
        return this.#remove(wanted);
      case Desired.DESIRED_STOPPED:
        return this.#stop(wanted);
      case Desired.DESIRED_RUNNING:
        return this.#start(wanted, signal);
      case Desired.DESIRED_PAUSED:
        if (await pause(this.#holder, wanted.generation, () => this.#start(wanted, signal))) this.#settle(wanted);
        return;
      case Desired.DESIRED_SUSPENDED:
        if (await suspend(this.#holder, wanted.generation, signal)) this.#settle(wanted);
        return;
      default:
        this.#log.warn("an assignment wants nothing that this agent knows", { desired: wanted.desired });
    }
  }

  #settle({ generation }: Assignment): void {
    this.#settled = generation;
    if (this.#live.exit) this.#bell.ring(); // it came while the VM was held
  }

  /** After a restart of the agent: the same process again, or what became of it. */
  async #resume(entry: JournalEntry): Promise<void> {
    await this.#at("rejoin.scan.processes");
    const { vmm, isKept } = this.#live.vmm ? { vmm: this.#live.vmm, isKept: false } : await recover(this.#host, this.#dir, entry);
    if (vmm) {
      if (vmm !== this.#live.vmm) this.#live.attach(vmm);
      await guardRunning(this.#host, this.#dir, this.#wanted, vmm.process).catch(vmm.kill);
      return this.#at("rejoin.adopt");
    }
    const { process, starting, report } = entry;
    if (starting) return this.#killStrays();
    await this.#host.network?.disconnect(entry.assignment.vmId);
    if (isKept) await this.#say({ phase: Phase.PHASE_SUSPENDED });
    else if (report.phase === Phase.PHASE_SUSPENDING || (process && isUp(report.phase) && this.#settled !== 0n)) this.#live.missed();
  }

  async #start(wanted: Assignment, signal: AbortSignal): Promise<void> {
    if (this.#live.vmm && this.#booted < wanted.restartGeneration) await this.#endVmm(this.#live.vmm, wanted);
    if (!this.#live.vmm) {
      if (!this.#mayRun() && this.#settled === 0n && upPhases.has(this.#report.phase)) return this.#giveUp(); // of another boot, or life
      if (this.#isYielded || !this.#mayRun()) return;
      if (this.#settled >= lastStart(wanted) && !this.#wakes(wanted)) {
        if (this.#report.generation < wanted.generation) await this.#say({ generation: wanted.generation }); // a change that starts nothing
        return;
      }
      const booting = Promise.withResolvers<void>();
      this.#booting = booting.promise;
      try {
        await this.#boot(wanted, signal);
      } catch (error) {
        if (signal.aborted || lacksSecret(wanted, error)) return; // the secret comes with the next assignment, which wakes this up
        if (!this.#mayRun()) return await this.#giveUp();
        if (!(await canWake(this.#holder))) return await this.#fail(wanted, error);
        this.#starting = false;
        await notWoken(this.#holder, error, signal);
        return this.#bell.ring();
      } finally {
        this.#booting = undefined;
        booting.resolve();
      }
    } else if (isHeld(this.#report.phase)) await goOn(this.#holder, wanted.generation);
    if (this.#report.phase !== Phase.PHASE_RUNNING) await this.#awaitReady(wanted, signal);
    else if (this.#live.vmm && this.#report.generation < wanted.generation) {
      await this.#live.vmm.resume(); // it may have been paused when the agent died, and nobody came to write that down
      await guardRunning(this.#host, this.#dir, wanted, this.#live.vmm.process); // its policy may be another now
      await this.#say({ generation: wanted.generation });
    }
    if (this.#report.phase === Phase.PHASE_RUNNING) {
      this.#settled = wanted.generation;
      this.#hear(); // the service may have ended before this
    }
  }

  /** What may be started elsewhere runs here with a lease only. */
  #mayRun(): boolean {
    return !isReschedulable(this.#wanted.spec) || this.#host.fence.isLeaseHeld();
  }

  async #boot(wanted: Assignment, signal: AbortSignal): Promise<void> {
    const { spec, generation, epoch } = wanted;
    if (!spec) throw new PitwallError("internal", "an assignment came without a spec");
    const wakes = this.#wakes(wanted);
    await this.#say({ generation, epoch, ...(wakes ? resuming : preparing) });
    if (wakes && !(await this.#host.driver.isSuspended(this.#dir))) throw memoryGone();
    const [isNew, network] = [this.#report.sshHostKey === "", networkFor(this.#host, wanted)];
    const prepared = await this.#host.ingredients.prepare({ dir: this.#dir, assignment: wanted, spec, isNew, network }, signal);
    this.#starting = true;
    if (wakes) await this.#save();
    else {
      await this.#host.driver.forget(this.#dir); // of another life than the one that begins
      [this.#booted, this.#size] = [generation, sizeOf(spec)];
      await this.#say({ phase: Phase.PHASE_BOOTING, sshHostKey: prepared.sshHostKey, timings: prepared.timings });
    }
    const mayRun = (): boolean => this.#mayRun() && !this.#isYielded;
    const vmm = await startVmm(this.#host, { dir: this.#dir, assignment: wanted, spec, prepared, size: this.#size, wakes }, mayRun);
    this.#starting = false;
    this.#live.attach(vmm);
    await this.#save();
    await this.#at("create.vmm.started");
    await this.#host.ingredients.discard(prepared);
  }

  /** Whether it goes on where it was suspended, rather than begins anew. */
  #wakes(wanted: Assignment): boolean {
    return isAsleep(this.#report.phase) && this.#booted >= lastStart(wanted);
  }

  async #awaitReady(wanted: Assignment, signal: AbortSignal): Promise<void> {
    const awaited = { bell: this.#bell, said: () => this.#live.said, hasEnded: () => this.#live.exit !== undefined };
    const came = await awaitReady(this.#host, awaited, signal);
    if (came === "interrupted") return this.#bell.ring();
    if (came === "too late") {
      await this.#live.vmm?.kill();
      return this.#fail(wanted, bootTimeout(this.#host.bootLimitMs, await this.#live.vmm?.exited));
    }
    const timings = isAsleep(this.#report.phase) ? this.#report.timings : upTimings(this.#report, came);
    await this.#say({ phase: Phase.PHASE_RUNNING, generation: wanted.generation, timings });
  }

  #onWord(): void {
    this.#hear();
    this.#bell.ring();
  }

  /** Reports what has become of the image's process, when that is news. */
  #hear(): void {
    const news = serviceNews(this.#live.said, this.#report);
    if (news) this.#say(news).catch((error: unknown) => this.#log.error("a report could not be kept", { error }));
  }

  async #stop(wanted: Assignment): Promise<void> {
    const { generation } = wanted;
    if (this.#live.vmm) await this.#endVmm(this.#live.vmm, wanted);
    if (this.#report.phase !== Phase.PHASE_STOPPED) await this.#host.driver.forget(this.#dir);
    this.#settled = generation;
    if (this.#report.phase !== Phase.PHASE_STOPPED || this.#report.generation !== generation) {
      await this.#say({ phase: Phase.PHASE_STOPPED, generation, reason: "", message: "" });
    }
  }

  async #endVmm(vmm: Vmm, { generation }: Assignment): Promise<void> {
    if (isHeld(this.#report.phase)) await goOn(this.#holder, generation); // or it could not shut down
    await this.#say({ phase: Phase.PHASE_STOPPING, generation, reason: "", message: "" });
    await this.#at("stop.vmm.term");
    await shutDown(vmm, this.#live.watch, this.#host.clock, this.#log);
    await this.#live.watch?.done; // the last word is how the image's process ended
    await this.#live.release();
    await this.#at("stop.vmm.reaped");
  }

  async #remove({ vmId, generation }: Assignment): Promise<void> {
    await this.#say({ phase: Phase.PHASE_DELETING, generation, reason: "", message: "" });
    await this.#at("delete.node.journalled");
    const ignore = planted("cleanup-ignores-errors") ? () => undefined : undefined;
    await this.#live.vmm?.kill();
    await this.#at("delete.vmm.kill");
    await this.#live.release({ mayHaveStrays: true });
    await this.#killStrays();
    await this.#at("delete.vmm.reaped");
    await this.#host.journals.clear(vmId).catch(ignore);
    await this.#at("delete.disk.gone");
    await this.#host.journals.remove(vmId).catch(ignore);
    await this.#at("delete.anchor.gone");
    this.#leases.dispose();
    this.#record.sayLast({ phase: Phase.PHASE_GONE });
  }

  /** The VMM ended without our doing. */
  async #buryVmm(exit: VmmExit): Promise<void> {
    await this.#live.watch?.done;
    const said = this.#live.said;
    await this.#live.release();
    if (this.#isYielded || !this.#mayRun()) return this.#giveUp();
    this.#settled = this.#report.generation;
    await this.#say(afterExit(exit, said));
  }

  /** Nothing runs, for want of a lease: that is no failure of the start, which comes again with the lease. */
  async #giveUp(): Promise<void> {
    await this.#live.release();
    [this.#starting, this.#isYielded, this.#settled] = [false, true, 0n];
    await this.#say({ ...leaseLost, ...((await canWake(this.#holder)) && { phase: Phase.PHASE_SUSPENDED }) });
  }

  async #fail({ generation }: Assignment, error: unknown): Promise<void> {
    this.#starting = false;
    await this.#live.vmm?.kill();
    await this.#live.release();
    this.#settled = generation;
    this.#log.warn("a VM failed", { error });
    await this.#say({ ...failure(error), generation });
  }

  async #killStrays(): Promise<void> {
    await killStrays(this.#host, this.#dir, this.#wanted.vmId, this.#log);
    await this.#host.network?.disconnect(this.#wanted.vmId);
    this.#starting = false;
  }

  async #at(place: StepName): Promise<void> {
    await this.#host.failpoints.at(place, this.#wanted.vmId);
  }

  #say(change: Partial<VmReport>): Promise<void> {
    return this.#record.say(change);
  }

  async #save(): Promise<void> {
    if (!this.#isGone) await this.#record.save();
  }
}
