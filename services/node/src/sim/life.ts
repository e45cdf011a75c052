// The life of one agent inside a process that it shares with others: its end is as sudden as kill -9. From then on nothing that the
// agent does has an effect, and nothing that it waits for comes: every port that it was given is dead.
import type { Clock } from "@pitwall/runtime";
import type { AgentParts } from "../agent.ts";
import type { Vmm, VmmDriver } from "../machine/vmm.ts";

type Async<A extends readonly unknown[], R> = (...args: A) => Promise<R>;

export class Life {
  readonly #end = new AbortController();

  get isOver(): boolean {
    return this.#end.signal.aborted;
  }

  /** Aborts at the end: for what holds sockets. */
  get signal(): AbortSignal {
    return this.#end.signal;
  }

  end(): void {
    this.#end.abort(new Error("the agent has crashed"));
  }

  /** The result, or for ever nothing once this life is over. */
  async #unlessOver<R>(result: Promise<R>): Promise<R> {
    const settled = await result.then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    );
    if (this.isOver) return never();
    if ("error" in settled) throw settled.error;
    return settled.value;
  }

  #bind<A extends readonly unknown[], R>(call: Async<A, R>): Async<A, R> {
    return async (...args) => (this.isOver ? never() : this.#unlessOver(call(...args)));
  }

  /** The same parts, for as long as this life lasts. */
  partsOf(parts: AgentParts): AgentParts {
    const { journals, ingredients, processes, fence, failpoints, dial } = parts;
    return {
      ...parts,
      clock: this.#clock(parts.clock),
      driver: this.#driver(parts.driver),
      journals: {
        dirOf: journals.dirOf,
        write: this.#bind(journals.write),
        clear: this.#bind(journals.clear),
        remove: this.#bind(journals.remove),
        readAll: this.#bind(journals.readAll),
      },
      ingredients: {
        prepare: this.#bind(ingredients.prepare),
        discard: this.#bind(ingredients.discard),
        lease: (digest) => (this.isOver ? { [Symbol.dispose]: () => undefined } : ingredients.lease(digest)),
      },
      processes: { workingIn: processes.workingIn, kill: this.#bind(processes.kill) },
      fence: {
        get deadlineMs() {
          return fence.deadlineMs;
        },
        guard: this.#bind(fence.guard),
        renew: (deadlineMs) => void (this.isOver || fence.renew(deadlineMs)),
        release: (vmId) => void (this.isOver || fence.release(vmId)),
      },
      failpoints: { at: this.#bind(failpoints.at), sending: failpoints.sending },
      dial: (requests, signal) => this.#iterable(() => dial(requests, AbortSignal.any([signal, this.signal]))),
      openGuest: this.#bind(async (vmm, signal) => {
        const guest = await parts.openGuest(vmm, signal);
        const { watchState, shutdown, setTime, addEntropy } = guest.control;
        return {
          ...guest,
          control: {
            watchState: (request, options) => this.#iterable(() => watchState(request, options)),
            shutdown: this.#bind(shutdown),
            setTime: this.#bind(setTime),
            addEntropy: this.#bind(addEntropy),
          },
        };
      }),
    };
  }

  #clock(clock: Clock): Clock {
    return {
      wallMs: () => clock.wallMs(),
      monotonicMs: () => clock.monotonicMs(),
      bootMs: () => clock.bootMs(),
      sleep: this.#bind((ms: number, signal?: AbortSignal) => clock.sleep(ms, signal)),
      after: (ms, callback) => clock.after(ms, () => this.isOver || callback()),
    };
  }

  #driver(driver: VmmDriver): VmmDriver {
    return {
      name: driver.name,
      wiring: driver.wiring,
      probe: this.#bind(driver.probe),
      start: this.#bind(async (spec) => this.#vmm(await driver.start(spec))),
      isSuspended: this.#bind(driver.isSuspended),
      wake: this.#bind(async (spec) => this.#vmm(await driver.wake(spec))),
      forget: this.#bind(driver.forget),
      adopt: this.#bind(async (spec, process) => {
        const vmm = await driver.adopt(spec, process);
        return vmm && this.#vmm(vmm);
      }),
    };
  }

  #vmm(vmm: Vmm): Vmm {
    return {
      process: vmm.process,
      exited: this.#unlessOver(vmm.exited),
      openChannel: this.#bind(vmm.openChannel),
      pause: this.#bind(vmm.pause),
      resume: this.#bind(vmm.resume),
      suspend: this.#bind(vmm.suspend),
      kill: this.#bind(vmm.kill),
      usage: this.#bind(vmm.usage),
    };
  }

  #iterable<T>(open: () => AsyncIterable<T>): AsyncIterable<T> {
    return {
      [Symbol.asyncIterator]: () => {
        const inner = open()[Symbol.asyncIterator]();
        return {
          next: this.#bind(() => inner.next()),
          return: this.#bind(async () => inner.return?.() ?? { done: true, value: undefined }),
        };
      },
    };
  }
}

async function never(): Promise<never> {
  return new Promise(() => undefined);
}
