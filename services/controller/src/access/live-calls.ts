// Calls that last: what lets each go on, an API token or a role in a project, is looked at again while it is open, so that it ends within
// seconds of a revocation on whichever controller.
import { sleepOrAbort, type Log } from "@pitwall/runtime";

const everyMs = 2_000;

/** Disposing it forgets all calls and ends none. */
export class LiveCalls implements AsyncDisposable {
  readonly #valid: (grants: readonly string[]) => Promise<ReadonlySet<string>>;
  readonly #log: Log;
  readonly #calls = new Map<string, Set<AbortController>>();
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;

  /** `valid` tells which of these grants still hold. */
  constructor(valid: (grants: readonly string[]) => Promise<ReadonlySet<string>>, log: Log) {
    this.#valid = valid;
    this.#log = log;
  }

  /** A signal that aborts once one of the grants no longer holds. Dispose it when the call is over. */
  follow(grants: readonly string[]): Disposable & { readonly signal: AbortSignal } {
    const call = new AbortController();
    for (const grant of grants) this.#calls.set(grant, (this.#calls.get(grant) ?? new Set()).add(call));
    if (grants.length > 0) this.#loop ??= this.#run();
    return {
      signal: call.signal,
      [Symbol.dispose]: () => {
        for (const grant of grants) {
          const calls = this.#calls.get(grant);
          calls?.delete(call);
          if (calls?.size === 0) this.#calls.delete(grant);
        }
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#calls.clear();
    await this.#loop;
  }

  /** Runs while calls are open. */
  async #run(): Promise<void> {
    while (this.#calls.size > 0 && !this.#stop.signal.aborted) {
      await sleepOrAbort(everyMs, this.#stop.signal);
      const grants = [...this.#calls.keys()];
      try {
        const valid = await this.#valid(grants);
        for (const grant of grants) {
          if (valid.has(grant)) continue;
          for (const call of this.#calls.get(grant) ?? []) call.abort();
          this.#calls.delete(grant);
        }
      } catch (error) {
        this.#log.warn("what lets open calls go on could not be checked", { error });
      }
    }
    this.#loop = undefined;
  }
}
