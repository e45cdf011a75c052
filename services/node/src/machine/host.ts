// What a machine needs of the node it is on. All of it is given: the real host by main.ts, a simulated one by sim/.
import type { Duplex } from "node:stream";
import type { TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import type { Assignment, NodeSubnet, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import type { ListDeniedFlowsResponse, VmSpec, VmTimings } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { Clock, Failpoints, Log, ProcessIdentity, Random } from "@pitwall/runtime";
import type { Guest } from "../guest/client.ts";
import type { GuestConfig } from "../host/initramfs.ts";
import type { JournalStore } from "./journal.ts";
import type { Vmm, VmmDriver, VmmTap } from "./vmm.ts";

/** Of a guest, what its machine uses. */
export interface MachineGuest extends AsyncDisposable {
  readonly control: Pick<Guest["control"], "watchState" | "shutdown" | "setTime" | "addEntropy">;
  dial(target: TunnelTarget, signal: AbortSignal): Promise<Duplex>;
}

/** All that a VM needs before its first instruction. */
export interface Prepared {
  readonly base: string;
  readonly disk: string;
  /** Holds secrets: to be removed once the VM runs. */
  readonly initramfs: string;
  /** `ssh-ed25519 AAAA…` */
  readonly sshHostKey: string;
  readonly timings: VmTimings;
}

export interface Preparing {
  readonly dir: string;
  readonly assignment: Assignment;
  readonly spec: VmSpec;
  /** The VM never came so far as to have a host key, so a disk is the rest of a start that was cut off. */
  readonly isNew: boolean;
  /** What the guest is told of it; undefined: the driver's own. */
  readonly network: GuestConfig["network"] | undefined;
}

/** Makes what VMs are started from. */
export interface Ingredients {
  prepare(what: Preparing, signal: AbortSignal): Promise<Prepared>;
  /** Once the VM runs. */
  discard(prepared: Prepared): Promise<void>;
  /** Keeps whatever there is of an image, or will be, until it is disposed. */
  lease(imageDigest: string): Disposable;
}

/** The host's processes. */
export interface Processes {
  /** Those that work in this folder. */
  workingIn(dir: string): readonly ProcessIdentity[];
  /** Resolves when it is gone. */
  kill(process: ProcessIdentity): Promise<void>;
}

/** What the fence kills when the lease runs out. */
export interface Guarded {
  readonly epoch: bigint;
  readonly dir: string;
  /** Unknown until it was started; what works in `dir` is killed in any case. */
  readonly process: ProcessIdentity | undefined;
}

/** Kills VMs that may be started elsewhere once the node's lease has run out, also when the agent is dead. */
export interface Fence {
  /** Whether the lease is held, right now. */
  isLeaseHeld(): boolean;
  /** Resolves when the fence knows it. Throws `unsupported` or `unavailable` when there is none. */
  guard(vmId: string, guarded: Guarded): Promise<void>;
  /** Whether it was guarded or not. */
  release(vmId: string): void;
}

/** A network of the host's own for its VMs. */
export interface HostNetwork {
  readonly subnet: NodeSubnet;
  /** What the guest is told. Throws `unavailable` when the controller has given the VM no address of this node's. */
  guestNetwork(assignment: Assignment): NonNullable<GuestConfig["network"]>;
  /** Before its VMM is started: rules first, then the TAP. Repeatable. */
  connect(assignment: Assignment): Promise<VmmTap>;
  /** Whether {@link heed} would change nothing. */
  heeds(assignment: Assignment): boolean;
  /** Its rules for what it sends and its bandwidth, from now on; of a VM that is not connected nothing. Repeatable. */
  heed(assignment: Assignment): Promise<void>;
  /** Once its VMM is gone: nothing is left. Repeatable, also for a VM that was never connected. */
  disconnect(vmId: string): Promise<void>;
  /** What the VM was denied lately; of one that is not connected nothing. */
  denied(vmId: string): Promise<ListDeniedFlowsResponse>;
  /** Removes what is there of all others. */
  keepOnly(vmIds: ReadonlySet<string>): Promise<void>;
}

/** What all machines of a node share. */
export interface MachineHost {
  readonly driver: VmmDriver;
  readonly kernel: string;
  readonly processes: Processes;
  readonly journals: JournalStore;
  readonly ingredients: Ingredients;
  readonly fence: Fence;
  /** Undefined: VMs have their driver's network. */
  readonly network: HostNetwork | undefined;
  /** Rejects with `unavailable` when the signal aborts before the guest answers. */
  openGuest(vmm: Vmm, signal: AbortSignal): Promise<MachineGuest>;
  readonly clock: Clock;
  readonly random: Random;
  readonly failpoints: Failpoints;
  readonly bootId: string;
  /** From the start of the VMM to a guest that is ready. */
  readonly bootLimitMs: number;
  readonly log: Log;
  /** Called after each change, when it is on disk. */
  onReport(report: VmReport): void;
}
