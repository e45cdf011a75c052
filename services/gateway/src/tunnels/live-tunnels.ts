// Open ways into VMs: a controller is asked again and again whether those who came may still be there, so that a way ends within seconds of
// a key, a token or a role that is taken away. What no controller answers ends nothing.
//
// State: the streams that are open, by who came for what; those that came alike are asked for once.
import type { Duplex } from "node:stream";
import type { CheckedTunnel } from "@pitwall/proto/pitwall/v1/access.ts";
import { PitwallError, sleepOrAbort, type Log } from "@pitwall/runtime";
import { ClientError, Status } from "nice-grpc";
import type { AccessClient } from "../controller-link.ts";

const everyMs = 2_000;
const limitMs = 5_000;
const maxAtOnce = 500;

interface Alike {
  readonly checked: CheckedTunnel;
  readonly streams: Set<Duplex>;
}

/** Disposing it asks no more, and ends nothing. */
export class LiveTunnels implements AsyncDisposable {
  readonly #access: () => Pick<AccessClient, "checkTunnels">;
  readonly #log: Log;
  readonly #alike = new Map<string, Alike>();
  readonly #stop = new AbortController();
  #asking: Promise<void> | undefined;

  constructor(access: () => Pick<AccessClient, "checkTunnels">, log: Log) {
    this.#access = access;
    this.#log = log;
  }

  /** Destroys the stream when its caller may no longer have it, unless it has closed by then. */
  follow(checked: CheckedTunnel, stream: Duplex): void {
    const credential = checked.caller?.credential;
    const key = JSON.stringify([credential?.$case, credential?.value, checked.vm, checked.method]);
    const alike = this.#alike.get(key) ?? { checked, streams: new Set() };
    alike.streams.add(stream);
    this.#alike.set(key, alike);
    stream.once("close", () => {
      alike.streams.delete(stream);
      if (alike.streams.size === 0 && this.#alike.get(key) === alike) this.#alike.delete(key);
    });
    this.#asking ??= this.#ask();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#asking;
  }

  /** Goes on while there are any. */
  async #ask(): Promise<void> {
    const { signal } = this.#stop;
    while (this.#alike.size > 0 && !signal.aborted) {
      await sleepOrAbort(everyMs, signal);
      const all = [...this.#alike.values()];
      for (let at = 0; at < all.length && !signal.aborted; at += maxAtOnce) await this.#endLost(all.slice(at, at + maxAtOnce));
    }
    this.#asking = undefined;
  }

  async #endLost(some: readonly Alike[]): Promise<void> {
    try {
      const { lost } = await this.#access().checkTunnels({ tunnels: some.map(({ checked }) => checked) }, { timeoutMs: limitMs });
      for (const at of lost) {
        for (const stream of some[at]?.streams ?? [])
          stream.destroy(new PitwallError("denied", "you may no longer reach this VM", { reason: "ACCESS_REVOKED" }));
      }
    } catch (error) {
      // A controller of the version before knows of no such question.
      if (error instanceof ClientError && error.code === Status.UNIMPLEMENTED) return;
      this.#log.warn("no controller says whether open ways into VMs may stay", { error });
    }
  }
}
