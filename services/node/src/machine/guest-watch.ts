// Follows what powerunit says of itself, over as many guest channels as it takes, until the VM is gone.
import { GuestState, type WatchStateResponse } from "@pitwall/proto/pitwall/v1/guest.ts";
import { backoff, sleepOrAbort, timeLimit, type Log } from "@pitwall/runtime";
import type { MachineGuest, MachineHost } from "./host.ts";
import type { Vmm } from "./vmm.ts";

const greetLimitMs = 10_000;

type GuestHost = Pick<MachineHost, "openGuest" | "clock" | "random">;

/** The live connection to one guest, and its last word. */
export class GuestWatch {
  readonly #stop = new AbortController();
  readonly #waiting = new Set<() => void>();
  #guest: MachineGuest | undefined;
  #said: WatchStateResponse | undefined;
  readonly done: Promise<void>;

  /** `onWord` is called for each state powerunit tells. */
  constructor(host: GuestHost, vmm: Vmm, onWord: (said: WatchStateResponse) => void, log: Log) {
    void vmm.exited.then(() => this.#stop.abort());
    this.done = this.#follow(host, vmm, onWord, log);
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

  /** Stops following; the VM runs on. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.done;
  }

  async #follow({ openGuest, clock, random }: GuestHost, vmm: Vmm, onWord: (said: WatchStateResponse) => void, log: Log): Promise<void> {
    const { signal } = this.#stop;
    const wait = backoff(50, 1_000, random);
    while (!signal.aborted) {
      try {
        using greeting = timeLimit(clock, greetLimitMs);
        await using guest = await openGuest(vmm, AbortSignal.any([signal, greeting.signal]));
        this.#guest = guest;
        this.#wake();
        for await (const said of guest.control.watchState({}, { signal })) {
          wait.reset();
          this.#said = said;
          onWord(said);
          if (said.state === GuestState.GUEST_STATE_FAILED) log.warn("the guest failed", { message: said.message });
        }
      } catch (error) {
        if (!signal.aborted) log.debug("guest channel broke", { error });
      } finally {
        this.#guest = undefined;
      }
      if (!signal.aborted) await sleepOrAbort(wait.nextMs(), signal, clock);
    }
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }
}
