// Follows what powerunit says of itself, over as many guest channels as it takes, until the VM is gone and has been heard out.
import { randomBytes } from "node:crypto";
import { GuestState, type WatchStateResponse } from "@pitwall/proto/pitwall/v1/guest.ts";
import { backoff, sleepOrAbort, timeLimit, type Log } from "@pitwall/runtime";
import type { MachineGuest, MachineHost } from "./host.ts";
import type { Vmm } from "./vmm.ts";

const greetLimitMs = 10_000;
/** For reading what a VMM wrote before it ended. */
const lastWordLimitMs = 1_000;
const entropyBytes = 64;
const setTimeLimitMs = 10_000;

type GuestHost = Pick<MachineHost, "openGuest" | "clock" | "random">;

/** The live connection to one guest, and its last word. */
export class GuestWatch {
  readonly #stop = new AbortController();
  readonly #waiting = new Set<() => void>();
  readonly #host: GuestHost;
  readonly #log: Log;
  #guest: MachineGuest | undefined;
  #said: WatchStateResponse | undefined;
  #isOver = false;
  /** Resolves, never rejects, once the VMM has ended and its last word was heard. */
  readonly done: Promise<void>;

  /** `onWord` is called for each state powerunit tells. */
  constructor(host: GuestHost, vmm: Vmm, onWord: (said: WatchStateResponse) => void, log: Log) {
    this.#host = host;
    this.#log = log;
    void vmm.exited.then(() => {
      this.#isOver = true;
      host.clock.after(lastWordLimitMs, () => this.#stop.abort());
    });
    this.done = this.#follow(vmm, onWord);
  }

  get said(): WatchStateResponse | undefined {
    return this.#said;
  }

  /** The guest, as soon as a channel is up; undefined when the signal aborts first. */
  async guest(signal: AbortSignal): Promise<MachineGuest | undefined> {
    while (!this.#guest && !signal.aborted && !this.#stop.signal.aborted) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          signal.removeEventListener("abort", wake);
          resolve();
        };
        this.#waiting.add(wake);
        signal.addEventListener("abort", wake, { once: true });
      });
    }
    return this.#guest;
  }

  /** Sets the guest's clock by the host's, when there is a channel. */
  async setTime(): Promise<void> {
    using limit = timeLimit(this.#host.clock, setTimeLimitMs);
    await this.#guest?.control
      .setTime({ time: new Date(this.#host.clock.wallMs()) }, { signal: AbortSignal.any([this.#stop.signal, limit.signal]) })
      .catch((error: unknown) => this.#warn("the guest's clock could not be set", error));
  }

  /** Stops following; the VM runs on. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.done;
  }

  async #follow(vmm: Vmm, onWord: (said: WatchStateResponse) => void): Promise<void> {
    const { openGuest, clock, random } = this.#host;
    const { signal } = this.#stop;
    const wait = backoff(50, 1_000, random);
    while (!signal.aborted && !this.#isOver) {
      let isFresh = true;
      try {
        using greeting = timeLimit(clock, greetLimitMs);
        await using guest = await openGuest(vmm, AbortSignal.any([signal, greeting.signal]));
        this.#guest = guest;
        this.#wake();
        for await (const said of guest.control.watchState({}, { signal })) {
          wait.reset();
          this.#said = said;
          onWord(said);
          if (said.state === GuestState.GUEST_STATE_FAILED) this.#log.warn("the guest failed", { message: said.message });
          // Not before it is up: a boot does not wait for this, and its own clock and pool are good for the while.
          if (isFresh && said.state === GuestState.GUEST_STATE_READY) {
            isFresh = false;
            void this.#refresh(guest);
          }
        }
      } catch (error) {
        if (!signal.aborted && !this.#isOver) this.#log.debug("guest channel broke", { error });
      } finally {
        this.#guest = undefined;
      }
      if (!signal.aborted && !this.#isOver) await sleepOrAbort(wait.nextMs(), signal, clock);
    }
    this.#stop.abort();
    this.#wake();
  }

  /** Nobody knows what happened to the guest while there was no channel: it may have been frozen, or be one of two that were one. */
  async #refresh({ control }: MachineGuest): Promise<void> {
    const mixed = control
      .addEntropy({ data: randomBytes(entropyBytes) }, { signal: this.#stop.signal })
      .catch((error: unknown) => this.#warn("the guest took no entropy", error));
    await Promise.all([mixed, this.setTime()]);
  }

  /** Of a guest that goes on. */
  #warn(message: string, error: unknown): void {
    if (!this.#isOver && !this.#stop.signal.aborted) this.#log.warn(message, { error });
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }
}
