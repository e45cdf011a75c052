// Those who use the system, and who run it: they call, wait so long and no longer, try again with the same request id, and watch.
import type { Principal } from "@pitwall/controller/src/projects/principal.ts";
import { watchVms } from "@pitwall/controller/src/rpc/watch.ts";
import { isDatabaseAway } from "@pitwall/controller/src/store/store.ts";
import {
  CreateVmRequest,
  Desired,
  NodeLossPolicy,
  Phase,
  UpdateVmRequest,
  WatchVmsRequest,
  type Vm,
} from "@pitwall/proto/pitwall/v1/vm.ts";
import { messageChain, PitwallError, seededRandom, type Clock } from "@pitwall/runtime";
import type { CallKind, Watched } from "../observer/history.ts";
import { wishes, type SimCall, type Wish } from "../observer/sim-history.ts";
import type { Op } from "../schedule/schedule.ts";
import type { SimController } from "./controller.ts";

const patienceMs = 5_000;
const tries = 3;
const retryMs = 300;

export const projectName = "sim";
export const client: Principal = { subject: "client", username: "client", isAdmin: false, token: undefined };
const operator: Principal = { subject: "operator", username: "operator", isAdmin: true, token: undefined };
const cpuSizes = [1_000, 1_500, 2_000] as const;
/** Of updates: so many say what becomes of the VM when its node is lost. */
const policyChance = 0.5;
/** Few, so that two VMs may want the same. */
const names = 12;

export interface ClientOptions {
  readonly seed: string;
  readonly clock: Clock;
  readonly image: string;
  readonly controllers: number;
  /** Undefined while it is down. */
  readonly controllerAt: (index: number) => SimController | undefined;
}

type Answer = { readonly vm: Vm | undefined } | { readonly error: unknown } | undefined;

/** What is asked, of whom first. */
interface Question {
  readonly kind: CallKind;
  readonly vm: number;
  readonly vmId: string | undefined;
  readonly requestId: string;
  readonly controller: number;
  readonly ask: (controller: SimController, requestId: string, signal: AbortSignal) => Promise<Vm | undefined>;
}

export class Clients {
  readonly #options: ClientOptions;
  readonly #ids = new Map<number, string>();
  readonly calls: SimCall[] = [];
  readonly watched: Watched[] = [];
  readonly #phases = new Map<string, Phase>();

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  /** Undefined: nobody was told of it. */
  idOf(vm: number): string | undefined {
    return this.#ids.get(vm);
  }

  /** As the watch showed it last; undefined: it did not, or nobody was told of the VM. */
  phaseOf(vm: number): Phase | undefined {
    return this.#phases.get(this.#ids.get(vm) ?? "");
  }

  /** The last try's answer; undefined: none was made, as nobody was told of the VM. */
  async call(op: Op): Promise<SimCall | undefined> {
    const vmId = this.#ids.get(op.vm);
    if (op.kind !== "create" && vmId === undefined) return undefined;
    const requestId = uuidOf(this.#options.seed, op.kind, op.vm, op.atMs);
    const ask: Question["ask"] = (controller, id, signal) => this.#askVm(controller, op, vmId ?? "", id, signal);
    const call = await this.#tried({ ...op, vmId, requestId, ask });
    if (op.kind === "create" && call.outcome === "ok" && call.vmId !== undefined) this.#ids.set(op.vm, call.vmId);
    return call;
  }

  /** An administrator asks the same until it is answered. */
  async administer(kind: "cordon" | "uncordon" | "drain" | "fence", node: string, controller: number): Promise<SimCall> {
    const requestId = uuidOf(this.#options.seed, kind, node, this.#options.clock.monotonicMs());
    const ask: Question["ask"] = async ({ fleet }, id) => {
      await fleet[kind](operator, { node, requestId: id, validateOnly: false });
      return undefined;
    };
    for (;;) {
      const call = await this.#tried({ kind, vm: -1, vmId: undefined, requestId, controller, ask });
      if (call.outcome !== "unknown") return call;
    }
  }

  async #tried({ kind, vm, vmId, requestId, controller: first, ask }: Question): Promise<SimCall> {
    const { clock, controllers, controllerAt } = this.#options;
    const fromMs = clock.monotonicMs();
    let wasUnknown = false;
    for (let tried = 1; ; tried++) {
      const controller = controllerAt((first + tried - 1) % controllers);
      const answer = controller
        ? await this.#inTime(controller, (signal) => ask(controller, requestId, signal))
        : { error: new PitwallError("unavailable", "nobody listens") };
      const isOpen = !answer || ("error" in answer && leavesOpen(answer.error));
      wasUnknown ||= isOpen && controller !== undefined;
      if (isOpen && tried < tries && kind !== "get") {
        await clock.sleep(retryMs);
        continue;
      }
      const isAnswered = answer !== undefined && "vm" in answer;
      const found = isAnswered ? answer.vm : undefined;
      const error = answer && "error" in answer ? answer.error : undefined;
      // A refusal after an unknown try: that one may have been the change.
      const outcome = isAnswered ? "ok" : isOpen || wasUnknown ? "unknown" : "refused";
      const call: SimCall = {
        ...{ kind, vm, vmId: found?.id ?? vmId, requestId, outcome },
        ...{ fromMs, toMs: clock.monotonicMs(), generation: found?.generation, wish: found && wishOf(found) },
        ...{ message: error === undefined ? "" : messageChain(error), fault: error instanceof PitwallError ? error.fault : "" },
      };
      this.calls.push(call);
      return call;
    }
  }

  /** Undefined: no answer in time. */
  async #inTime({ process }: SimController, ask: (signal: AbortSignal) => Promise<Vm | undefined>): Promise<Answer> {
    const limit = new AbortController();
    const asking = (async (): Promise<Answer> => {
      await process.running();
      return { vm: await ask(limit.signal) };
    })().catch((error: unknown): Answer => ({ error }));
    return Promise.race([asking, this.#options.clock.sleep(patienceMs).then(() => undefined)]);
  }

  async #askVm({ vms }: SimController, op: Op, vm: string, requestId: string, signal: AbortSignal): Promise<Vm | undefined> {
    const change = { vm, requestId, etag: "", validateOnly: false, planToken: "" };
    const random = seededRandom(this.#options.seed, "request", op.vm, op.atMs);
    switch (op.kind) {
      case "create": {
        const nodeLossPolicy = op.moves ? NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE : NodeLossPolicy.NODE_LOSS_POLICY_HOLD;
        const spec = { image: this.#options.image, nodeLossPolicy, env: { REQUEST: requestId }, cpuMillis: op.cpuMillis ?? 0 };
        return (await vms.create(client, CreateVmRequest.fromPartial({ requestId, spec }), signal)).vm;
      }
      case "get":
        return vms.get(client, vm);
      case "update": {
        const value = { spec: { cpuMillis: cpuSizes[Math.floor(random() * cpuSizes.length)] ?? 1_000, labels: { at: String(op.atMs) } } };
        const updateMask = random() < 0.5 ? ["spec.labels"] : ["spec.labels", "spec.cpu_millis"];
        if (random() < policyChance) {
          const { NODE_LOSS_POLICY_RESCHEDULE: reschedule, NODE_LOSS_POLICY_HOLD: hold } = NodeLossPolicy;
          Object.assign(value.spec, { nodeLossPolicy: random() < 0.7 ? reschedule : hold });
          updateMask.push("spec.node_loss_policy");
        }
        return (await vms.moves.update(client, UpdateVmRequest.fromPartial({ ...change, value, updateMask }))).vm;
      }
      case "rename":
        return (await vms.moves.rename(client, { ...change, name: `name-${Math.floor(random() * names)}` })).vm;
      case "undelete":
        return (await vms.moves.undelete(client, { ...change, name: "" })).vm;
      case "start":
      case "stop":
      case "restart":
      case "pause":
      case "suspend":
      case "delete":
        return (await vms.moves[op.kind](client, change)).vm;
    }
  }

  /** Watches all VMs until the signal aborts; resumes where it was, at the next controller, after each break. */
  async watch(signal: AbortSignal): Promise<void> {
    const { clock, controllers, controllerAt } = this.#options;
    let resumeToken = "";
    for (let index = 0; !signal.aborted; index = (index + 1) % controllers) {
      const controller = controllerAt(index);
      if (controller) {
        const { died } = controller.process;
        const stop = AbortSignal.any([died, signal]);
        const stopped = new Promise<undefined>((resolve) => stop.addEventListener("abort", () => resolve(undefined), { once: true }));
        const stream = watchVms(controller.vms, client, WatchVmsRequest.fromPartial({ project: projectName, resumeToken }), stop);
        for (;;) {
          const next = await Promise.race([stream.next(), stopped]).catch(() => undefined);
          if (next === undefined || next.done === true || stop.aborted) break;
          const { vm, resumeToken: token } = next.value;
          if (vm) {
            this.watched.push({ vm: vm.id, revision: Number(vm.etag), isGone: vm.phase === Phase.PHASE_GONE });
            this.#phases.set(vm.id, vm.phase);
          }
          if (token !== "") resumeToken = token;
        }
      }
      await clock.sleep(retryMs);
    }
  }
}

function wishOf({ desired, deleteTime }: Vm): Wish {
  if (desired === Desired.DESIRED_DELETED) return "deleted";
  if (deleteTime) return "held";
  return wishes.get(desired) ?? "stopped";
}

/** Whether it may have happened all the same. */
function leavesOpen(error: unknown): boolean {
  return isDatabaseAway(error) || !(error instanceof PitwallError) || error.fault === "unavailable" || error.fault === "internal";
}

function uuidOf(...labels: readonly (string | number)[]): string {
  const random = seededRandom(...labels, "request");
  const hex = Array.from({ length: 32 }, () => Math.floor(random() * 16).toString(16)).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`;
}
