// VMs: create, watch, wait.
import type { Client } from "nice-grpc-web";
import { isPassing, present, reconnectMs, sleep, type CallExtras } from "./calls.ts";
import { PitwallRpcError, WaitTimeoutError } from "./errors.ts";
import { Phase, type ListDeniedFlowsResponse, type Vm, type VmServiceDefinition } from "./gen/pitwall/v1/vm.ts";
import { VmPlans } from "./vm-plans.ts";
import {
  changeRequest,
  createRequest,
  extendRequest,
  renameRequest,
  ttlOf,
  undeleteRequest,
  updateRequest,
  type ChangeOptions,
  type CreateVmOptions,
  type ListVmsOptions,
  type VmUpdate,
} from "./vm-requests.ts";

const pageSize = 500;

export interface WaitOptions {
  /** Default 120,000. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

export interface WatchOptions {
  /** Default: all of the project. */
  vm?: string;
  /** As in {@link ListVmsOptions}; not with `vm`. */
  project?: string;
  resumeToken?: string;
  /** Called when all that there was at the begin has been given out, also when that is nothing: from then on no change is missed. */
  onSynced?: (resumeToken: string) => void;
  signal?: AbortSignal;
}

/** A VM that was, became, or ceased to be (`PHASE_GONE`). */
export interface VmChange {
  readonly vm: Vm;
  /** Give it to `watch` to go on from here. */
  readonly resumeToken: string;
}

type RawClient = Client<VmServiceDefinition, CallExtras>;

/** All calls throw {@link PitwallRpcError}. `vm` is an id, a name in the personal project, or `PROJECT/NAME`. */
export class Vms {
  readonly #raw: RawClient;
  /** What the same calls would do. */
  readonly plan: VmPlans;

  constructor(raw: RawClient) {
    this.#raw = raw;
    this.plan = new VmPlans(raw);
  }

  /** Returns as soon as the VM is placed; see {@link waitUntil}. */
  async create(options: CreateVmOptions): Promise<Vm> {
    return present((await this.#raw.createVm(createRequest(options, {}), { retry: true })).vm);
  }

  /** Throws NOT_FOUND; `minGeneration` asks for a state that is at least of that generation. */
  async get(vm: string, { minGeneration = 0n }: { minGeneration?: bigint } = {}): Promise<Vm> {
    return present((await this.#raw.getVm({ vm, minGeneration }, { retry: true })).vm);
  }

  /** Where it tried to send to within the last hour and was not let, the latest first. Throws UNIMPLEMENTED where nothing is counted. */
  async deniedFlows(vm: string): Promise<ListDeniedFlowsResponse> {
    return this.#raw.listDeniedFlows({ vm }, { retry: true });
  }

  /** All VMs of a project, by name unless another order is asked for. */
  async *list(options: ListVmsOptions = {}): AsyncGenerator<Vm, void, undefined> {
    for (let pageToken = ""; ;) {
      const page = await this.#raw.listVms({ ...options, pageSize, pageToken }, { retry: true });
      yield* page.vms;
      pageToken = page.nextPageToken;
      if (pageToken === "") return;
    }
  }

  /** A paused or suspended VM goes on where it was. Changes nothing for one that runs. */
  async start(vm: string, options: ChangeOptions = {}): Promise<Vm> {
    return present((await this.#raw.startVm(changeRequest(vm, options, {}), { retry: true })).vm);
  }

  /** Its CPUs stand still until it is started. */
  async pause(vm: string, options: ChangeOptions = {}): Promise<Vm> {
    return present((await this.#raw.pauseVm(changeRequest(vm, options, {}), { retry: true })).vm);
  }

  /** To its node's disk, with all that it has in memory, until it is started. RUNNING with the reason SUSPEND_FAILED: it did not work. */
  async suspend(vm: string, options: ChangeOptions = {}): Promise<Vm> {
    return present((await this.#raw.suspendVm(changeRequest(vm, options, {}), { retry: true })).vm);
  }

  async stop(vm: string, options: ChangeOptions = {}): Promise<Vm> {
    return present((await this.#raw.stopVm(changeRequest(vm, options, {}), { retry: true })).vm);
  }

  /** Stops it and starts it again, with its disk. */
  async restart(vm: string, options: ChangeOptions = {}): Promise<Vm> {
    return present((await this.#raw.restartVm(changeRequest(vm, options, {}), { retry: true })).vm);
  }

  /** Returns at once; {@link waitUntilGone} sees it done. With a `deleteTime` it stops, and can be brought back until its `purgeTime`. */
  async delete(vm: string, options: ChangeOptions = {}): Promise<Vm> {
    return present((await this.#raw.deleteVm(changeRequest(vm, options, {}), { retry: true })).vm);
  }

  /** Brings a deleted VM back, stopped. `vm` is its id. */
  async undelete(vm: string, options: ChangeOptions & { name?: string } = {}): Promise<Vm> {
    return present((await this.#raw.undeleteVm(undeleteRequest(vm, options, {}), { retry: true })).vm);
  }

  async rename(vm: string, name: string, options: ChangeOptions = {}): Promise<Vm> {
    return present((await this.#raw.renameVm(renameRequest(vm, name, options, {}), { retry: true })).vm);
  }

  /** It is deleted so long from now; `null`: never. */
  async extend(vm: string, ttlMs: number | null, options: ChangeOptions = {}): Promise<Vm> {
    return present((await this.#raw.extendVm(extendRequest(vm, ttlMs, options, {}), { retry: true })).vm);
  }

  /**
   * A certificate for an `ssh-ed25519 …` key, which opens the VM by SSH to its holder as to the caller: a line of a `-cert.pub` file. Whoever logs
   * in with it before `expireTime`, ten minutes from now, stays.
   */
  async issueSshCertificate(vm: string, publicKey: string): Promise<{ certificate: string; expireTime: Date }> {
    const { certificate, expireTime } = await this.#raw.issueSshCertificate({ vm, publicKey }, { retry: true });
    return { certificate, expireTime: present(expireTime) };
  }

  /** A text that opens one port of the VM by HTTP to whoever has it; {@link Pitwall.signedUrl} makes an address of it. */
  async issueIngressGrant(
    vm: string,
    { port = 0, ttlMs = 3_600_000 }: { port?: number; ttlMs?: number } = {},
  ): Promise<{ grant: string; host: string; port: number; expireTime: Date }> {
    const { expireTime, ...issued } = await this.#raw.issueIngressGrant({ vm, port, ...ttlOf(ttlMs) }, { retry: true });
    return { ...issued, expireTime: present(expireTime) };
  }

  async update(vm: string, update: VmUpdate, options: ChangeOptions = {}): Promise<Vm> {
    return present((await this.#raw.updateVm(updateRequest(vm, update, options, {}), { retry: true })).vm);
  }

  /** The current VMs, then every change. Reconnects where it left off; ends when the signal aborts. */
  async *watch({ vm = "", project = "", resumeToken = "", onSynced, signal }: WatchOptions = {}): AsyncGenerator<
    VmChange,
    void,
    undefined
  > {
    let token = resumeToken;
    let known = new Map<string, Vm>();
    let reference = vm;
    while (!signal?.aborted) {
      // Without a token the list begins anew: what is missing from it is gone.
      const seen = new Map<string, Vm>();
      const isAnew = token === "";
      try {
        for await (const message of this.#raw.watchVms({ vm: reference, project, resumeToken: token }, signal ? { signal } : {})) {
          if (message.resumeToken !== "") token = message.resumeToken;
          if (message.vm) {
            if (vm !== "") reference = message.vm.id; // its name may be another one's when the stream has broken off
            for (const list of [seen, known])
              if (message.vm.phase === Phase.PHASE_GONE) list.delete(message.vm.id);
              else list.set(message.vm.id, message.vm);
            yield { vm: message.vm, resumeToken: token };
          } else if (message.synced) {
            if (isAnew) {
              for (const lost of known.values())
                if (!seen.has(lost.id)) yield { vm: { ...lost, phase: Phase.PHASE_GONE }, resumeToken: token };
              known = new Map(seen);
            }
            onSynced?.(token);
          }
        }
      } catch (error) {
        if (signal?.aborted) return;
        if (error instanceof PitwallRpcError && error.code === "OUT_OF_RANGE" && token !== "") {
          token = ""; // too old: from the current state
          continue;
        }
        if (!isPassing(error)) throw error;
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
