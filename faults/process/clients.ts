// Those who use the system: through the gateway, with the SDK and its retries. What each was answered is written down.
import { randomUUID } from "node:crypto";
import { NodeLossPolicy, Phase, PitwallRpcError, type Vm } from "@pitwall/sdk";
import { messageChain, systemClock } from "@pitwall/runtime";
import type { Call, Watched } from "../observer/history.ts";
import type { Installation } from "./installation.ts";
import type { Acknowledged } from "./judges.ts";
import type { ProcessOp } from "./schedule.ts";

/** For an answer; then the client no longer cares. */
const patienceMs = 10_000;
const rewatchMs = 200;
const cpuMillis = 100;
const memBytes = 128n << 20n;
const diskBytes = 64n << 20n;

const openCodes: ReadonlySet<string> = new Set(["UNAVAILABLE", "UNKNOWN", "INTERNAL", "DEADLINE_EXCEEDED", "CANCELLED"]);

type Answer = { readonly vm: Vm } | { readonly error: unknown } | undefined;

export class Clients {
  readonly #installation: Installation;
  readonly #originMs: number;
  readonly #ids = new Map<number, string>();
  readonly calls: Call[] = [];
  readonly watched: Watched[] = [];
  /** Placements that somebody was told of. */
  readonly acknowledged: Acknowledged[] = [];
  #underWay = 0;
  readonly #synced = Promise.withResolvers<void>();

  constructor(installation: Installation, originMs: number) {
    this.#installation = installation;
    this.#originMs = originMs;
  }

  /** Names of VMs that may be there. */
  get names(): string[] {
    return [...this.#ids.keys()].map(nameOf);
  }

  /** Calls that have no answer yet, those included for which nobody waits any more: what they ask for may still happen. */
  get underWay(): number {
    return this.#underWay;
  }

  async call(op: ProcessOp): Promise<void> {
    const vmId = this.#ids.get(op.vm);
    if (op.kind !== "create" && vmId === undefined) return; // nobody was told of it
    const requestId = randomUUID();
    const fromMs = this.#nowMs();
    let wasRetried = false;
    const answer = await this.#ask(op, vmId, requestId, () => (wasRetried = true));
    const vm = answer && "vm" in answer ? answer.vm : undefined;
    if (op.kind === "create" && vm) this.#ids.set(op.vm, vm.id);
    const isOpen = !answer || ("error" in answer && leavesOpen(answer.error));
    // A refusal after a try that failed: that one may have been the change.
    const outcome = vm ? "ok" : isOpen || wasRetried ? "unknown" : "refused";
    const message = answer && "error" in answer ? messageChain(answer.error) : "";
    if (vm) this.#learn(vm);
    this.calls.push({
      ...{ kind: op.kind, vm: op.vm, vmId: vm?.id ?? vmId, requestId, fromMs, toMs: this.#nowMs(), outcome, message },
      generation: vm?.generation,
    });
  }

  /** Resolves once the watch misses nothing: what changes before that it need not show. */
  get watches(): Promise<void> {
    return this.#synced.promise;
  }

  /** Watches all VMs until the signal aborts; resumes where it was after each break. */
  async watch(signal: AbortSignal): Promise<void> {
    let resumeToken = "";
    const onSynced = (token: string): void => {
      resumeToken = token;
      this.#synced.resolve();
    };
    while (!signal.aborted) {
      try {
        for await (const { vm, resumeToken: token } of this.#installation.client().vms.watch({ resumeToken, onSynced, signal })) {
          resumeToken = token;
          this.#learn(vm);
          this.watched.push({ vm: vm.id, revision: Number(vm.etag), isGone: vm.phase === Phase.PHASE_GONE });
        }
      } catch {
        await systemClock.sleep(rewatchMs); // an error that the SDK does not outlast: as a program would, begin again
      }
    }
  }

  /** Undefined: no answer in time. */
  async #ask(op: ProcessOp, vmId: string | undefined, requestId: string, onRetry: () => void): Promise<Answer> {
    const { vms } = this.#installation.client(onRetry);
    this.#underWay++;
    const asking = (async (): Promise<Answer> => {
      switch (op.kind) {
        case "create": {
          const nodeLossPolicy = op.moves ? NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE : NodeLossPolicy.NODE_LOSS_POLICY_HOLD;
          const spec = {
            image: op.image ?? this.#installation.image,
            nodeLossPolicy,
            cpuMillis,
            memBytes,
            diskBytes,
            env: { REQUEST: requestId },
          };
          return { vm: await vms.create({ name: nameOf(op.vm), requestId, spec }) };
        }
        case "get":
          return { vm: await vms.get(vmId ?? "") };
        case "start":
        case "stop":
        case "delete":
          return { vm: await vms[op.kind](vmId ?? "", { requestId }) };
      }
    })()
      .catch((error: unknown): Answer => ({ error }))
      .finally(() => this.#underWay--);
    return Promise.race([asking, systemClock.sleep(patienceMs).then(() => undefined)]);
  }

  #learn({ id, epoch }: Vm): void {
    this.acknowledged.push({ vm: id, epoch: Number(epoch), atMs: this.#nowMs() });
  }

  #nowMs(): number {
    return Date.now() - this.#originMs;
  }
}

const nameOf = (vm: number): string => `vm-${vm}`;

/** Whether it may have happened all the same. */
function leavesOpen(error: unknown): boolean {
  return !(error instanceof PitwallRpcError) || openCodes.has(error.code);
}
