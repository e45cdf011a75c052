// A thread that runs schedules (worker.ts), watched from outside: one that does not answer in time is ended, and the next schedule gets
// another. So does the one after a schedule that broke off: what that has left under way is no other schedule's.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { messageChain, type PlantedBug, type StepName } from "@pitwall/runtime";
import type { Violation } from "./observer/history.ts";

/** In real time, for one schedule: a hundred times what one takes. */
const runLimitMs = 120_000;
/** For making one smaller. */
export const shrinkLimitMs = 60_000;

export interface ThreadData {
  readonly databaseUrl: string;
  readonly image: string;
  readonly planted?: PlantedBug;
}

/** What the thread is told. `shrink` asks for the smallest schedule that is found to break one of these invariants too, in words. */
export type ThreadRequest =
  | { readonly ask: "run"; readonly seed: string }
  | { readonly ask: "shrink"; readonly seed: string; readonly broken: readonly string[] };

export interface Verdict {
  readonly seed: string;
  readonly isValid: boolean;
  readonly violations: readonly Violation[];
  /** As a history has it. */
  readonly struck: readonly StepName[];
}

/** Disposing it ends the thread, whatever it does. */
export class ScheduleThread implements AsyncDisposable {
  readonly #data: ThreadData;
  readonly #limitMs: number;
  #worker: Worker | undefined;

  constructor({ databaseUrl, image, planted }: ThreadData, limitMs = runLimitMs) {
    this.#data = { databaseUrl, image, ...(planted && { planted }) };
    this.#limitMs = limitMs;
  }

  /** That it did not end, or broke off, is a violation of `run`. Rejects only when the signal aborts. */
  async run(seed: string, signal?: AbortSignal): Promise<Verdict> {
    try {
      const verdict = await this.#ask<Verdict>({ ask: "run", seed }, this.#limitMs, signal);
      if (verdict.violations.some(({ invariant }) => invariant === "run")) await this[Symbol.asyncDispose]();
      return verdict;
    } catch (error) {
      signal?.throwIfAborted();
      return { seed, isValid: true, violations: [{ invariant: "run", message: `the schedule ${messageChain(error)}` }], struck: [] };
    }
  }

  async shrink(seed: string, broken: readonly string[], signal?: AbortSignal): Promise<string> {
    try {
      return await this.#ask<string>({ ask: "shrink", seed, broken }, shrinkLimitMs + this.#limitMs, signal);
    } catch (error) {
      signal?.throwIfAborted();
      return `making it smaller ${messageChain(error)}`;
    }
  }

  async #ask<T>(request: ThreadRequest, limitMs: number, signal?: AbortSignal): Promise<T> {
    const worker = (this.#worker ??= new Worker(new URL("worker.ts", import.meta.url), { workerData: this.#data }));
    const limit = AbortSignal.timeout(limitMs);
    try {
      worker.postMessage(request);
      const [answer] = (await once(worker, "message", { signal: signal ? AbortSignal.any([limit, signal]) : limit })) as [T]; // worker.ts answers what it is asked
      return answer;
    } catch (error) {
      await this[Symbol.asyncDispose]();
      throw limit.aborted ? new Error(`did not end within ${limitMs / 1_000} s`) : new Error("ended its thread", { cause: error });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }
}
