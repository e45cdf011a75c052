// Calls that last: each API token that has one open is looked at again, so that a revoked token's streams end within seconds.
import { sleepOrAbort, type Log } from "@pitwall/runtime";

const everyMs = 2_000;

/** Disposing it forgets all calls and ends none. */
export class LiveTokens implements AsyncDisposable {
  readonly #valid: (ids: readonly string[]) => Promise<ReadonlySet<string>>;
  readonly #log: Log;
  readonly #calls = new Map<string, Set<AbortController>>();
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;

  /** `valid` tells which of these tokens may still be used. */
  constructor(valid: (ids: readonly string[]) => Promise<ReadonlySet<string>>, log: Log) {
    this.#valid = valid;
    this.#log = log;
  }

  /** A signal that aborts once the token is no longer valid. Dispose it when the call is over. */
  follow(tokenId: string): Disposable & { readonly signal: AbortSignal } {
    const call = new AbortController();
    const calls = this.#calls.get(tokenId) ?? new Set();
    this.#calls.set(tokenId, calls.add(call));
    this.#loop ??= this.#run();
    return {
      signal: call.signal,
      [Symbol.dispose]: () => {
        calls.delete(call);
        if (calls.size === 0 && this.#calls.get(tokenId) === calls) this.#calls.delete(tokenId);
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
      const ids = [...this.#calls.keys()];
      try {
        const valid = await this.#valid(ids);
        for (const id of ids) {
          if (valid.has(id)) continue;
          for (const call of this.#calls.get(id) ?? []) call.abort();
          this.#calls.delete(id);
        }
      } catch (error) {
        this.#log.warn("open calls of API tokens could not be checked", { error });
      }
    }
    this.#loop = undefined;
  }
}
