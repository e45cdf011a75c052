// VMs: create, watch, wait.
import type { Client } from "nice-grpc-web";
import { present, sleep, type CallExtras } from "./calls.ts";
import { PitwallRpcError, WaitTimeoutError } from "./errors.ts";
import { Phase, VmSpec, type Vm, type VmServiceDefinition } from "./gen/pitwall/v1/vm.ts";

const pageSize = 500;
const reconnectMs = 300;

export interface CreateVmOptions {
  /** Chosen by the server when absent. */
  name?: string;
  /** Only `image` is needed. */
  spec: Partial<VmSpec> & Pick<VmSpec, "image">;
  /** A UUID that makes repeats harmless; made up when absent. */
  requestId?: string;
  /** Refuses an image of which anything would be ignored; see `Pitwall.checkImage`. Default false. */
  strict?: boolean;
}

export interface WaitOptions {
  /** Default 120,000. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** A VM that was, became, or ceased to be (`PHASE_GONE`). */
export interface VmChange {
  readonly vm: Vm;
  /** Give it to `watch` to go on from here. */
  readonly resumeToken: string;
}

type RawClient = Client<typeof VmServiceDefinition, CallExtras>;

/** All calls throw {@link PitwallRpcError}. `vm` is a name or an id. */
export class Vms {
  readonly #raw: RawClient;

  constructor(raw: RawClient) {
    this.#raw = raw;
  }

  /** Returns as soon as the VM is placed; see {@link waitUntil}. */
  async create({ name = "", spec, requestId = crypto.randomUUID(), strict = false }: CreateVmOptions): Promise<Vm> {
    return present((await this.#raw.createVm({ name, requestId, strict, spec: VmSpec.fromPartial(spec) }, { retry: true })).vm);
  }

  async get(vm: string): Promise<Vm> {
    return present((await this.#raw.getVm({ vm }, { retry: true })).vm);
  }

  /** All of the caller's VMs, by name. */
  async *list(): AsyncGenerator<Vm, void, undefined> {
    for (let pageToken = ""; ;) {
      const page = await this.#raw.listVms({ pageSize, pageToken }, { retry: true });
      yield* page.vms;
      pageToken = page.nextPageToken;
      if (pageToken === "") return;
    }
  }

  async start(vm: string): Promise<Vm> {
    return present((await this.#raw.startVm({ vm }, { retry: true })).vm);
  }

  async stop(vm: string): Promise<Vm> {
    return present((await this.#raw.stopVm({ vm }, { retry: true })).vm);
  }

  /** Returns at once; {@link waitUntilGone} sees it done. */
  async delete(vm: string): Promise<Vm> {
    return present((await this.#raw.deleteVm({ vm }, { retry: true })).vm);
  }

  /** The current VMs, then every change. Reconnects where it left off; ends when the signal aborts. */
  async *watch({ vm = "", resumeToken = "", signal }: { vm?: string; resumeToken?: string; signal?: AbortSignal } = {}): AsyncGenerator<
    VmChange,
    void,
    undefined
  > {
    let token = resumeToken;
    let known = new Map<string, Vm>();
    while (!signal?.aborted) {
      // Without a token the list begins anew: what is missing from it is gone.
      const seen = new Map<string, Vm>();
      const isAnew = token === "";
      try {
        for await (const message of this.#raw.watchVms({ vm, resumeToken: token }, signal ? { signal } : {})) {
          if (message.resumeToken !== "") token = message.resumeToken;
          if (message.vm) {
            for (const list of [seen, known])
              if (message.vm.phase === Phase.PHASE_GONE) list.delete(message.vm.id);
              else list.set(message.vm.id, message.vm);
            yield { vm: message.vm, resumeToken: token };
          } else if (message.synced && isAnew) {
            for (const lost of known.values())
              if (!seen.has(lost.id)) yield { vm: { ...lost, phase: Phase.PHASE_GONE }, resumeToken: token };
            known = new Map(seen);
          }
        }
      } catch (error) {
        if (signal?.aborted) return;
        if (error instanceof PitwallRpcError && error.code === "OUT_OF_RANGE" && token !== "") {
          token = ""; // too old: from the current state
          continue;
        }
        const isTransient =
          error instanceof PitwallRpcError &&
          (error.code === "UNAVAILABLE" || error.code === "UNKNOWN" || error.code === "CANCELLED" || error.code === "INTERNAL");
        if (!isTransient) throw error;
      }
      await sleep(reconnectMs, signal);
    }
  }

  /** Waits for one of `phases` (default RUNNING), FAILED or GONE, whichever comes first, for the generation that is current now. */
  async wait(vm: string, { phases = [Phase.PHASE_RUNNING], ...options }: { phases?: readonly Phase[] } & WaitOptions = {}): Promise<Vm> {
    const { id, generation } = await this.get(vm);
    return this.waitUntil(
      id,
      (seen) =>
        seen.phase === Phase.PHASE_GONE ||
        (seen.observedGeneration >= generation && (phases.includes(seen.phase) || seen.phase === Phase.PHASE_FAILED)),
      options,
    );
  }

  /** Waits until nothing of a VM that is being deleted is left; at once when that is so already. */
  async waitUntilGone({ id }: Vm, options: WaitOptions = {}): Promise<void> {
    try {
      await this.waitUntil(id, ({ phase }) => phase === Phase.PHASE_GONE, options);
    } catch (error) {
      if (!(error instanceof PitwallRpcError && error.code === "NOT_FOUND")) throw error;
    }
  }

  /** The VM as soon as it satisfies `predicate`. Throws {@link WaitTimeoutError} when the time is up. */
  async waitUntil(vm: string, predicate: (vm: Vm) => boolean, { timeoutMs = 120_000, signal }: WaitOptions = {}): Promise<Vm> {
    const timeout = AbortSignal.timeout(timeoutMs);
    let last: Vm | undefined;
    for await (const change of this.watch({ vm, signal: signal ? AbortSignal.any([signal, timeout]) : timeout })) {
      last = change.vm;
      if (predicate(last)) return last;
    }
    signal?.throwIfAborted();
    throw new WaitTimeoutError(vm, timeoutMs, last);
  }
}
