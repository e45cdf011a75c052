// Those who use the system: they call, wait so long and no longer, try a create again with the same request id, and watch.
import type { Principal } from "@pitwall/controller/src/projects/principal.ts";
import { watchVms } from "@pitwall/controller/src/rpc/watch.ts";
import { isDatabaseAway } from "@pitwall/controller/src/store/store.ts";
import { CreateVmRequest, NodeLossPolicy, Phase, WatchVmsRequest, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { messageChain, PitwallError, seededRandom, type Clock } from "@pitwall/runtime";
import type { Call, Watched } from "../observer/history.ts";
import type { Op } from "../schedule/schedule.ts";
import type { SimController } from "./controller.ts";

const patienceMs = 5_000;
const tries = 3;
const retryMs = 300;

export const projectName = "sim";
export const client: Principal = { subject: "client", username: "client", isAdmin: false, token: undefined };

export interface ClientOptions {
  readonly seed: string;
  readonly clock: Clock;
  readonly image: string;
  readonly controllers: number;
  /** Undefined while it is down. */
  readonly controllerAt: (index: number) => SimController | undefined;
}

type Answer = { readonly vm: Vm | undefined } | { readonly error: unknown } | undefined;

export class Clients {
  readonly #options: ClientOptions;
  readonly #ids = new Map<number, string>();
  readonly calls: Call[] = [];
  readonly watched: Watched[] = [];

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  async call(op: Op): Promise<void> {
    const { clock, controllers, seed } = this.#options;
    const vmId = this.#ids.get(op.vm);
    if (op.kind !== "create" && vmId === undefined) return; // nobody was told of it
    const requestId = uuidOf(seed, op.kind, op.vm, op.atMs);
    const fromMs = clock.monotonicMs();
    let wasUnknown = false;
    for (let tried = 1; ; tried++) {
      const controller = this.#options.controllerAt((op.controller + tried - 1) % controllers);
      const answer = controller
        ? await this.#ask(controller, op, vmId, requestId)
        : { error: new PitwallError("unavailable", "nobody listens") };
      const isOpen = !answer || ("error" in answer && leavesOpen(answer.error));
      wasUnknown ||= isOpen && controller !== undefined;
      if (isOpen && tried < tries && op.kind !== "get") {
        await clock.sleep(retryMs);
        continue;
      }
      const vm = answer && "vm" in answer ? answer.vm : undefined;
      if (op.kind === "create" && vm) this.#ids.set(op.vm, vm.id);
      // A refusal after an unknown try: that one may have been the change.
      const outcome = vm ? "ok" : isOpen || wasUnknown ? "unknown" : "refused";
      const message = answer && "error" in answer ? messageChain(answer.error) : "";
      const times = { fromMs, toMs: clock.monotonicMs() };
      this.calls.push({
        kind: op.kind,
        vm: op.vm,
        vmId: vm?.id ?? vmId,
        requestId,
        ...times,
        outcome,
        generation: vm?.generation,
        message,
      });
      return;
    }
  }

  /** Undefined: no answer in time. */
  async #ask({ vms, process }: SimController, op: Op, vmId: string | undefined, requestId: string): Promise<Answer> {
    const limit = new AbortController();
    const asking = (async (): Promise<Answer> => {
      await process.running();
      const change = { vm: vmId ?? "", requestId, etag: "", validateOnly: false, planToken: "" };
      switch (op.kind) {
        case "create": {
          const nodeLossPolicy = op.moves ? NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE : NodeLossPolicy.NODE_LOSS_POLICY_HOLD;
          const spec = { image: this.#options.image, nodeLossPolicy, env: { REQUEST: requestId } };
          return { vm: (await vms.create(client, CreateVmRequest.fromPartial({ requestId, spec }), limit.signal)).vm };
        }
        case "get":
          return { vm: await vms.get(client, vmId ?? "") };
        case "start":
        case "stop":
        case "delete":
          return { vm: (await vms.moves[op.kind](client, change)).vm };
      }
    })().catch((error: unknown): Answer => ({ error }));
    return Promise.race([asking, this.#options.clock.sleep(patienceMs).then(() => undefined)]);
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
          if (vm) this.watched.push({ vm: vm.id, revision: Number(vm.etag), isGone: vm.phase === Phase.PHASE_GONE });
          if (token !== "") resumeToken = token;
        }
      }
      await clock.sleep(retryMs);
    }
  }
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
