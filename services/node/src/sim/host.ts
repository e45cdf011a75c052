// A virtual host: its processes, its disk, its fence. It outlives its agent, as a real one does, and can lose power.
import { PitwallError, planted, seededRandom, type Clock, type ProcessIdentity } from "@pitwall/runtime";
import type { AgentFence } from "../agent.ts";
import { leaseClockMs } from "../link/lease.ts";
import type { Guarded, Processes } from "../machine/host.ts";
import { decodeEntry, encodeEntry, type JournalStore } from "../machine/journal.ts";
import type { VmmExit } from "../machine/vmm.ts";
import type { SimGuest } from "./memory-guest.ts";
import type { Trace } from "./trace.ts";

/** From writing to being on disk. */
const syncMs = 1;
/** The same for who does not wait for it: the kernel writes when it likes. */
const writebackMs = 5_000;
/** Of each boot. */
const firstPid = 1000;
/** USER_HZ is 100. */
const tickMs = 10;

/** A VMM that runs nothing. */
export interface SimProcess {
  readonly identity: ProcessIdentity;
  readonly dir: string;
  readonly guest: SimGuest;
  readonly startedMs: number;
  readonly exited: Promise<VmmExit>;
  /** Ends it; a second time it is ignored. */
  end(exit: Omit<VmmExit, "tail">): void;
  /** As SIGKILL does: a process with much memory takes its time. Resolves when it is gone. */
  kill(): Promise<void>;
}

interface StoredFile {
  durable: string | undefined;
  /** Written, and lost if the power goes now. */
  pending: string | undefined;
}

export interface SimHostOptions {
  readonly clock: Clock;
  readonly seed: string;
  readonly name: string;
  readonly trace: Trace;
  /** How long a VMM takes to end once it is killed. */
  readonly killMs: (vmId: string) => number;
}

export class SimHost {
  readonly #options: SimHostOptions;
  readonly #processes = new Map<number, SimProcess>();
  readonly #files = new Map<string, StoredFile>();
  readonly #guarded = new Map<string, Guarded>();
  /** What suspended guests have in memory, by the VM's folder. */
  readonly #memories = new Map<string, SimGuest>();
  /** Removed, and there again if the power goes now. */
  readonly #limbo = new Map<string, StoredFile>();
  #nextPid = firstPid;
  #wallOffsetMs = 0;
  #diskFailsUntilMs = 0;
  #boots = 1;
  #crashes = 0;
  #deadlineMs = 0;
  #fenceTimer: Disposable | undefined;
  /** Called with each VMM that begins: for who watches from outside. */
  onSpawn: (process: SimProcess) => void = () => undefined;

  constructor(options: SimHostOptions) {
    this.#options = options;
  }

  get bootId(): string {
    return `${this.#options.name}/${this.#boots}`;
  }

  get running(): readonly SimProcess[] {
    return [...this.#processes.values()];
  }

  /** Names of what is on its disk: the VMs. */
  get stored(): readonly string[] {
    return [...this.#files.keys()];
  }

  /** What its wall clock has jumped by. */
  get wallOffsetMs(): number {
    return this.#wallOffsetMs;
  }

  jumpClock(byMs: number): void {
    this.#wallOffsetMs += byMs;
    if (planted("lease-by-wall-clock") && this.#deadlineMs > 0) this.fence.renew(this.#deadlineMs);
  }

  /** For so long nothing can be written or removed. */
  breakDisk(forMs: number): void {
    this.#diskFailsUntilMs = Math.max(this.#diskFailsUntilMs, this.#options.clock.monotonicMs() + forMs);
  }

  /** Throws what the kernel says while the disk is broken. */
  needDisk(): void {
    if (this.#options.clock.monotonicMs() >= this.#diskFailsUntilMs) return;
    throw Object.assign(new Error("EIO: i/o error, write"), { code: "EIO", errno: -5 });
  }

  process(identity: ProcessIdentity): SimProcess | undefined {
    const found = this.#processes.get(identity.pid);
    if (planted("pid-alone")) return found;
    return found?.identity.startTicks === identity.startTicks ? found : undefined;
  }

  spawn(dir: string, guest: SimGuest): SimProcess {
    const startedMs = this.#options.clock.bootMs();
    const identity = { pid: this.#nextPid++, startTicks: BigInt(Math.floor(startedMs / tickMs)) };
    const ended = Promise.withResolvers<VmmExit>();
    const end = (exit: Omit<VmmExit, "tail">): void => {
      if (this.#processes.get(identity.pid) !== process) return; // another may have its number, since the power was gone
      this.#processes.delete(identity.pid);
      guest.close();
      ended.resolve({ ...exit, tail: "the simulated VMM ended" });
    };
    const kill = async (): Promise<void> => {
      const killMs = this.#options.killMs(dir.slice(dir.lastIndexOf("/") + 1));
      this.#options.clock.after(killMs, () => end({ code: null, signal: "SIGKILL" }));
      if (!planted("release-before-exit")) await ended.promise;
    };
    const process: SimProcess = { identity, dir, guest, startedMs, exited: ended.promise, end, kill };
    this.#processes.set(identity.pid, process);
    this.onSpawn(process);
    return process;
  }

  /** On its disk, for sure. */
  keepMemory({ dir, guest }: SimProcess): void {
    this.needDisk();
    this.#memories.set(dir, guest.again());
  }

  memoryOf(dir: string): SimGuest | undefined {
    return this.#memories.get(dir);
  }

  forgetMemory(dir: string): void {
    this.needDisk();
    this.#memories.delete(dir);
  }

  readonly processes: Processes = {
    workingIn: (dir) => this.running.filter((process) => process.dir === dir).map(({ identity }) => identity),
    kill: async (identity) => this.process(identity)?.kill(),
  };

  readonly journals: JournalStore = {
    dirOf: (vmId) => `/sim/${this.#options.name}/${vmId}`,
    write: async (vmId, entry) => {
      this.needDisk();
      const file = this.#files.get(vmId) ?? { durable: undefined, pending: undefined };
      const text = encodeEntry(entry);
      file.pending = text;
      this.#files.set(vmId, file);
      const settle = (): void => {
        if (file.pending !== text) return; // the power went, or a later write came
        file.durable = text;
        file.pending = undefined;
      };
      if (planted("no-fsync")) return void this.#options.clock.after(writebackMs, settle);
      await this.#options.clock.sleep(syncMs);
      settle();
    },
    clear: async (vmId) => this.forgetMemory(this.journals.dirOf(vmId)),
    remove: async (vmId) => {
      this.needDisk();
      const file = this.#files.get(vmId);
      if (planted("no-fsync") && file) {
        this.#files.delete(vmId);
        this.#limbo.set(vmId, file);
        return void this.#options.clock.after(writebackMs, () => this.#limbo.delete(vmId));
      }
      await this.#options.clock.sleep(syncMs);
      this.#files.delete(vmId);
    },
    readAll: async () => {
      const entries = [];
      for (const [vmId, { durable }] of this.#files)
        if (durable === undefined) this.#files.delete(vmId);
        else entries.push(decodeEntry(vmId, durable));
      return { entries, damaged: [] };
    },
  };

  /** The fence is a process of its own: it acts whether the agent lives or not. */
  readonly fence: AgentFence = this.#openFence();

  #openFence(): AgentFence {
    const deadlineMs = (): number => this.#deadlineMs;
    return {
      get deadlineMs() {
        return deadlineMs();
      },
      guard: async (vmId, guarded) => void this.#guarded.set(vmId, guarded),
      release: (vmId) => void this.#guarded.delete(vmId),
      renew: (until) => {
        this.#deadlineMs = until;
        this.#fenceTimer?.[Symbol.dispose]();
        const { clock } = this.#options;
        const nowMs = leaseClockMs({ bootMs: () => clock.bootMs(), wallMs: () => clock.wallMs() + this.#wallOffsetMs });
        this.#fenceTimer = clock.after(until - nowMs, () => this.#fenceOff());
      },
    };
  }

  #fenceOff(): void {
    for (const [vmId, { dir, process }] of this.#guarded) {
      const { trace, name } = this.#options;
      for (const identity of [...(process ? [process] : []), ...this.processes.workingIn(dir)]) {
        const found = this.process(identity);
        if (found) trace({ node: name, vm: vmId, step: "fence.kill" });
        found?.end({ code: null, signal: "SIGKILL" });
      }
    }
  }

  /** What becomes of writes under way when the agent is killed: the kernel finishes some of them. */
  agentCrashed(): void {
    this.#settleWrites("agent");
    if (planted("fence-with-agent")) this.#guarded.clear();
  }

  /** Everything that is not on disk is gone. */
  losePower(): void {
    this.#boots++;
    for (const process of this.running) process.end({ code: null, signal: "SIGKILL" });
    this.#guarded.clear();
    this.#deadlineMs = 0;
    this.#fenceTimer?.[Symbol.dispose]();
    this.#nextPid = firstPid;
    this.#settleWrites("power");
    for (const [vmId, file] of this.#limbo) this.#files.set(vmId, file);
    this.#limbo.clear();
  }

  #settleWrites(cause: string): void {
    const { seed, name } = this.#options;
    const random = seededRandom(seed, name, cause, this.#crashes++);
    for (const file of this.#files.values()) {
      if (file.pending !== undefined && random() < 0.5) file.durable = file.pending;
      file.pending = undefined;
    }
  }
}

/** As a full disk answers. */
export function diskFull(): PitwallError {
  return new PitwallError("exhausted", "the node's disk is full: free some space or use another node", { reason: "DISK_FULL" });
}
