// The VMM of a machine while it has one, and what is heard of its guest.
import type { Duplex } from "node:stream";
import type { TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import type { WatchStateResponse } from "@pitwall/proto/pitwall/v1/guest.ts";
import { PitwallError, timeLimit, type Log } from "@pitwall/runtime";
import { GuestWatch } from "./guest-watch.ts";
import type { MachineHost } from "./host.ts";
import type { Vmm, VmmExit } from "./vmm.ts";

const dialLimitMs = 10_000;

interface Listeners {
  readonly onWord: () => void;
  readonly onExit: () => void;
}

export class Live {
  readonly #host: MachineHost;
  readonly #vmId: string;
  readonly #log: Log;
  readonly #listeners: Listeners;
  #vmm: Vmm | undefined;
  #watch: GuestWatch | undefined;
  #exit: VmmExit | undefined;

  constructor(host: MachineHost, vmId: string, log: Log, listeners: Listeners) {
    this.#host = host;
    this.#vmId = vmId;
    this.#log = log;
    this.#listeners = listeners;
  }

  get vmm(): Vmm | undefined {
    return this.#vmm;
  }

  get watch(): GuestWatch | undefined {
    return this.#watch;
  }

  /** The guest's latest word. */
  get said(): WatchStateResponse | undefined {
    return this.#watch?.said;
  }

  /** How the VMM ended, until it is released. */
  get exit(): VmmExit | undefined {
    return this.#exit;
  }

  attach(vmm: Vmm): void {
    this.#vmm = vmm;
    this.#exit = undefined;
    this.#watch = new GuestWatch(this.#host, vmm, this.#listeners.onWord, this.#log);
    void vmm.exited.then((exit) => {
      if (this.#vmm !== vmm) return;
      this.#exit = exit;
      this.#listeners.onExit();
    });
  }

  /** It ended while nobody looked. */
  missed(): void {
    this.#exit = { code: null, signal: null, tail: "it ended while the agent was away" };
  }

  /** Of a VMM that has ended. Where another one may be left of the VM, its network stays: whoever kills that one takes it away. */
  async release({ mayHaveStrays = false } = {}): Promise<void> {
    await this.#watch?.close();
    if (!mayHaveStrays) await this.#host.network?.disconnect(this.#vmId);
    this.#watch = undefined;
    this.#vmm = undefined;
    this.#exit = undefined;
    this.#host.fence.release(this.#vmId);
  }

  /** A byte stream into the guest. Throws `state` when it does not run, the guest's own status when it refuses. */
  async dial(target: TunnelTarget, signal: AbortSignal): Promise<Duplex> {
    using limit = timeLimit(this.#host.clock, dialLimitMs);
    const limited = AbortSignal.any([signal, limit.signal]);
    const guest = await this.#watch?.guest(limited);
    if (!guest) throw new PitwallError("state", "the VM does not run", { reason: "VM_NOT_RUNNING" });
    return await guest.dial(target, limited);
  }
}
