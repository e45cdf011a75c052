// A guest that runs nothing, inside the process of its agent: powerunit's control service without a wire.
//
// BOOTING -> READY -> STOPPING -> the VMM ends
import { PassThrough, type Duplex } from "node:stream";
import { GuestState, WatchStateResponse } from "@pitwall/proto/pitwall/v1/guest.ts";
import { PitwallError, toDuration, type Clock } from "@pitwall/runtime";
import type { MachineGuest } from "../machine/host.ts";

export class SimGuest {
  readonly #clock: Clock;
  readonly #startedMs: number;
  readonly #watchers = new Set<() => void>();
  #said: WatchStateResponse;
  #isClosed = false;
  #isPaused = false;
  /** Called when the guest is asked to shut down. */
  onShutdown: () => void = () => undefined;

  constructor(clock: Clock, startedMs = clock.monotonicMs()) {
    this.#clock = clock;
    this.#startedMs = startedMs;
    this.#said = WatchStateResponse.fromPartial({ state: GuestState.GUEST_STATE_BOOTING, powerunitVersion: "sim" });
  }

  say(change: Partial<WatchStateResponse>): void {
    this.#said = { ...this.#said, ...change };
    this.#wake();
  }

  pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
    this.#wake();
  }

  /** The same guest in another VMM, paused. */
  again(): SimGuest {
    const guest = new SimGuest(this.#clock, this.#startedMs);
    guest.#said = this.#said;
    guest.#isPaused = true;
    return guest;
  }

  /** The VMM is gone. */
  close(): void {
    this.#isClosed = true;
    this.#wake();
  }

  /** As the machine meets it. Rejects with `unavailable` when the signal aborts first. */
  async open(signal: AbortSignal): Promise<MachineGuest> {
    while (this.#isPaused && !this.#isClosed && !signal.aborted) await this.#change(signal);
    if (this.#isClosed || signal.aborted) {
      throw new PitwallError("unavailable", "the guest does not answer", { reason: "GUEST_SILENT", cause: signal.reason });
    }
    return {
      control: {
        watchState: (_, options) => this.#watch(options?.signal ?? signal),
        setTime: async () => ({}),
        addEntropy: async () => ({}),
        shutdown: async () => {
          this.say({ state: GuestState.GUEST_STATE_STOPPING });
          this.onShutdown();
          return {};
        },
      },
      dial: async (target) => this.#dial(target.target?.$case),
      [Symbol.asyncDispose]: async () => undefined,
    };
  }

  #dial(target: string | undefined): Duplex {
    if (target !== "tcp") throw new PitwallError("unsupported", "a simulated VM has no SSH and runs nothing", { reason: "SIMULATED" });
    return new PassThrough(); // TCP targets echo
  }

  async *#watch(signal: AbortSignal): AsyncGenerator<WatchStateResponse> {
    for (let told: WatchStateResponse | undefined; !this.#isClosed && !signal.aborted;) {
      if (told !== this.#said) {
        told = this.#said;
        yield { ...told, uptime: toDuration(this.#clock.monotonicMs() - this.#startedMs) };
      } else await this.#change(signal);
    }
  }

  async #change(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        this.#watchers.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      this.#watchers.add(wake);
      signal.addEventListener("abort", wake, { once: true });
    });
  }

  #wake(): void {
    for (const wake of this.#watchers) wake();
  }
}
