// The driver contract: what a VMM must do for a node. Every driver passes tests/vmm-contract.ts.
//
// A VMM process is no child of the agent in any way that matters: it survives the agent's death and is adopted again by pid and
// start time, never by pid alone. All calls are idempotent where a repeat makes sense (kill of a dead VMM, stop of a stopped one).
import type { Duplex } from "node:stream";
import type { GuestConfig } from "../host/initramfs.ts";

/** Everything a driver needs to boot one VM. Paths are absolute and belong to this VM alone, except `base` and `kernel`. */
export interface VmmSpec {
  readonly vmId: string;
  /** Placement number: part of every name made on the host, so that two placements never collide. */
  readonly epoch: bigint;
  /** Existing folder, 0700, for sockets, console ring and logs of this VM. */
  readonly dir: string;
  /** Uncompressed kernel (ELF). */
  readonly kernel: string;
  /** Initramfs with powerunit and this VM's configuration. May be removed once `start` has returned. */
  readonly initramfs: string;
  /** Read-only squashfs, shared. Guest sees a virtio disk with serial `base`. */
  readonly base: string;
  /** Writable ext4. Guest sees a virtio disk with serial `data`. */
  readonly disk: string;
  /** At least 1. */
  readonly vcpus: number;
  readonly memBytes: number;
  /** Undefined: the driver's own network. */
  readonly tap: VmmTap | undefined;
}

/** A network interface of the host that is a VM's: there, and up, before the VM starts. */
export interface VmmTap {
  readonly name: string;
  /** The guest's. */
  readonly mac: string;
}

/** Of a VM that goes on, whose boot is long over. */
export type WakeSpec = Omit<VmmSpec, "initramfs">;

/** Identity of a VMM process that survives the agent: both fields must match for it to be the same one. */
export interface VmmProcess {
  readonly driver: string;
  readonly pid: number;
  /** Clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly startTicks: bigint;
}

/** How a VMM ended. */
export interface VmmExit {
  /** Null when the process was not our child (adopted), or ended by a signal. */
  readonly code: number | null;
  readonly signal: string | null;
  /** Last lines of console and VMM output, at most 4 KiB, for the failure message. */
  readonly tail: string;
}

export interface VmmUsage {
  /** CPU time of the VMM process since its start. */
  readonly cpuMs: number;
  readonly rssBytes: number;
}

/** One running VMM. */
export interface Vmm {
  readonly process: VmmProcess;
  /** Resolves, never rejects, when the VMM process is gone, however that came about. */
  readonly exited: Promise<VmmExit>;
  /**
   * Opens a byte stream to powerunit's guest channel; the preamble (docs/architecture.md, "Guest channel") has been exchanged.
   * One stream at a time: a new one ends the one before. When the VMM ends, what it had written can still be read, then the stream ends.
   * Rejects with `unavailable` when the signal aborts or the VMM is gone.
   */
  openChannel(signal: AbortSignal): Promise<Duplex>;
  /** Freezes the virtual CPUs. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /**
   * Writes what the guest has in memory to the VM's folder, which with its disk is then all that is needed to go on, also after a loss of
   * power, and ends the VMM. Rejects when that cannot be written, or the signal aborts before it is; the guest then runs on.
   */
  suspend(signal: AbortSignal): Promise<void>;
  /** Ends the VMM process at once; resolves when it is gone. */
  kill(): Promise<void>;
  usage(): Promise<VmmUsage>;
}

/** A VM whose VMM is written down. */
export interface Claim {
  readonly vmId: string;
  readonly process: VmmProcess;
}

/** How a driver's guests are wired to the host: what powerunit is told of it. */
export type GuestWiring = Pick<GuestConfig, "channel" | "network" | "disks">;

/** A way to run VMs. */
export interface VmmDriver {
  readonly name: "qemu" | "sim" | "firecracker";
  readonly wiring: GuestWiring;
  /** What a probe boot proved; cached per host. Throws `unsupported` with the remedy when the driver cannot run here. */
  probe(): Promise<{ readonly version: string; readonly acceleration: "kvm" | "tcg" | "none" }>;
  /** Resolves once the VMM runs and the virtual CPUs have started. On failure nothing is left: no process, socket or file. */
  start(spec: VmmSpec): Promise<Vmm>;
  /** Whether {@link Vmm.suspend} has come to its end in this folder, and nothing has gone on from there yet. */
  isSuspended(dir: string): Promise<boolean>;
  /**
   * Goes on where `suspend` has left off. Before the guest's next instruction the memory in the folder is gone for good: with what the guest
   * then does to its disk it would be that of no guest. On failure no process is left, and the memory is, unless it was no good.
   */
  wake(spec: WakeSpec): Promise<Vmm>;
  /** Removes the memory of a suspended VM. */
  forget(dir: string): Promise<void>;
  /** The same VMM again after a restart of the agent; undefined when that process is gone or another one has its pid. */
  adopt(spec: Pick<VmmSpec, "vmId" | "epoch" | "dir">, process: VmmProcess): Promise<Vmm | undefined>;
  /**
   * Removes from the host whatever earlier agents made for VMs, except for those that are claimed. Called once, before any other VM is
   * adopted or started. Absent where a VM has nothing but its process and what is in its folder.
   */
  sweep?(claimed: readonly Claim[]): Promise<void>;
}
