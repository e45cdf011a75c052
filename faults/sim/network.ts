// The network between nodes and controllers: streams as HTTP/2 gives them, ordered and whole until they break.
//
// A blocked direction holds what is sent, as TCP does; one that stays so for as long as both ends' pings need to notice breaks.
import type { ConnectRequest, ConnectResponse } from "@pitwall/proto/pitwall/v1/link.ts";
import type { DialLink } from "@pitwall/node/src/link/dial.ts";
import { Outbox, type Clock, type Random } from "@pitwall/runtime";
import { Metadata } from "nice-grpc";
import type { SimController } from "./controller.ts";

const limit = 100_000;
/** A copy of a message may come so much later. */
const lateMs = { from: 100, to: 5_000 };
const pausedLookMs = 50;
/** Pings, of both ends: libs' keepalive. */
const noticedMs = 10_000;

type Way = "up" | "down";

interface Trouble {
  readonly node: number;
  readonly controller: number | undefined;
  readonly ways: readonly Way[];
  readonly kind: "blocked" | "slow" | "doubled" | "late" | "partial";
  readonly untilMs: number;
}

export interface NetworkOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Of an index; undefined while it is down. */
  readonly controllerAt: (index: number) => SimController | undefined;
  readonly controllers: number;
}

export class Network {
  readonly #options: NetworkOptions;
  #troubles: Trouble[] = [];
  readonly #connections = new Set<{ readonly node: number; readonly break_: (why: unknown) => void }>();
  readonly #afterHeartbeat = new Map<number, () => void>();
  /** Of connections that live. */
  readonly #queues = new Set<{ readonly length: number; readonly isOpen: boolean }>();

  constructor(options: NetworkOptions) {
    this.#options = options;
  }

  /** Of messages that have arrived and were not taken, in the longest queue. */
  get longest(): number {
    for (const queue of this.#queues) if (!queue.isOpen && queue.length === 0) this.#queues.delete(queue);
    return Math.max(0, ...[...this.#queues].map(({ length }) => length));
  }

  trouble(trouble: Omit<Trouble, "untilMs">, forMs: number): void {
    const nowMs = this.#options.clock.monotonicMs();
    this.#troubles = this.#troubles.filter(({ untilMs }) => untilMs > nowMs);
    this.#troubles.push({ ...trouble, untilMs: nowMs + forMs });
  }

  /** Calls back when a heartbeat of the node has arrived, before it can have been answered. */
  afterNextHeartbeat(node: number, then: () => void): void {
    this.#afterHeartbeat.set(node, then);
  }

  /** Both ends of the node's connections learn at once that they are no more. */
  reset(node: number): void {
    for (const connection of this.#connections) if (connection.node === node) connection.break_(new Error("the connection was reset"));
  }

  #has(kind: Trouble["kind"], node: number, controller: number, way: Way): boolean {
    return this.#endMs(kind, node, controller, way) > this.#options.clock.monotonicMs();
  }

  /** When the last of such troubles ends, or has ended. */
  #endMs(kind: Trouble["kind"], node: number, controller: number, way: Way): number {
    const its = this.#troubles.filter(
      (trouble) =>
        trouble.kind === kind && trouble.node === node && (trouble.controller ?? controller) === controller && trouble.ways.includes(way),
    );
    return Math.max(-Infinity, ...its.map(({ untilMs }) => untilMs));
  }

  /** How the agent of a node reaches controllers: one after the other, beginning with any. */
  dialFrom(node: number, nodeId: string): DialLink {
    const { random, controllers } = this.#options;
    let next = Math.floor(random() * controllers);
    return (requests, signal) => {
      next = (next + 1) % controllers;
      return this.#connect(node, nodeId, next, requests, signal);
    };
  }

  async *#connect(
    node: number,
    nodeId: string,
    index: number,
    requests: AsyncIterable<ConnectRequest>,
    signal: AbortSignal,
  ): AsyncGenerator<ConnectResponse> {
    const { clock, controllerAt } = this.#options;
    await clock.sleep(1);
    signal.throwIfAborted();
    const controller = controllerAt(index);
    if (!controller) throw new Error("nobody listens");
    const up = new Outbox<ConnectRequest>(limit);
    const down = new Outbox<ConnectResponse>(limit);
    this.#queues.add(up).add(down);
    const serving = new AbortController();
    // A controller reads what has arrived before it learns of the end: also what came while it was paused.
    const learn = async (why: unknown): Promise<void> => {
      up.close();
      while (controller.process.isPaused) await clock.sleep(pausedLookMs);
      await clock.sleep(1);
      serving.abort(why);
    };
    const break_ = (why: unknown): void => {
      this.#connections.delete(connection);
      down.fail(why);
      if (!controller.process.died.aborted) return void learn(why);
      up.fail(why);
      serving.abort(why);
    };
    const connection = { node, break_ };
    this.#connections.add(connection);
    controller.process.died.addEventListener("abort", () => break_(controller.process.died.reason), { once: true });
    // What the agent gives up the controller learns when the way there is open, or by its pings.
    const gaveUp = async (): Promise<void> => {
      await this.#open(node, index, "up").catch(() => undefined);
      break_(new Error("the node ended the call"));
    };
    signal.addEventListener("abort", () => void gaveUp(), { once: true });
    const member = { role: "node" as const, id: nodeId };
    const context = {
      ...{ metadata: new Metadata(), header: new Metadata(), trailer: new Metadata(), peer: "simulated", sendHeader: () => undefined },
      ...{ signal: serving.signal, user: undefined, member },
    };
    void this.#carry(this.#told(requests, node, index), up, node, index, "up", signal).catch(break_);
    const responses = controller.link.connect(up, context);
    void this.#carry(responses, down, node, index, "down", serving.signal, isAssignment).catch(break_);
    const ended = (): void => down.fail(signal.reason);
    signal.addEventListener("abort", ended, { once: true });
    try {
      yield* down;
    } finally {
      void gaveUp();
    }
  }

  async #carry<T extends { readonly message?: { readonly $case: string } | undefined }>(
    from: AsyncIterable<T>,
    to: Outbox<T>,
    node: number,
    index: number,
    way: Way,
    signal: AbortSignal,
    mayComeAgain: (message: T) => boolean = () => false,
  ): Promise<void> {
    const { clock, random } = this.#options;
    for await (const message of from) {
      await clock.sleep(this.#has("slow", node, index, way) ? 50 + Math.floor(random() * 400) : 1);
      await this.#open(node, index, way);
      // Also to a controller that is paused: what has arrived waits in its socket, and is read when it goes on.
      if (signal.aborted && way === "up") return;
      to.push(message);
      if (way === "up" && isHeartbeat(message)) this.#passed(node);
      if (this.#has("doubled", node, index, way) && random() < 0.5) to.push(message);
      if (this.#has("late", node, index, way) && mayComeAgain(message))
        clock.after(lateMs.from + Math.floor(random() * (lateMs.to - lateMs.from)), () => to.push(message));
    }
    await this.#open(node, index, way);
    to.close();
  }

  #passed(node: number): void {
    const then = this.#afterHeartbeat.get(node);
    this.#afterHeartbeat.delete(node);
    then?.();
  }

  async *#told(requests: AsyncIterable<ConnectRequest>, node: number, controller: number): AsyncGenerator<ConnectRequest> {
    for await (const request of requests) yield this.#has("partial", node, controller, "up") ? withHalf(request) : request;
  }

  /** Rejects when it was blocked for so long that both ends have noticed. */
  async #open(node: number, index: number, way: Way): Promise<void> {
    const { clock } = this.#options;
    const noticedAtMs = clock.monotonicMs() + noticedMs;
    for (;;) {
      const [nowMs, endMs] = [clock.monotonicMs(), this.#endMs("blocked", node, index, way)];
      if (endMs <= nowMs) return;
      if (nowMs >= noticedAtMs) throw new Error("the connection timed out");
      await clock.sleep(Math.min(endMs, noticedAtMs) - nowMs);
    }
  }
}

/** What several readers of the database put on a link, none of which knows what another has read before. */
function isAssignment({ message }: { readonly message?: { readonly $case: string; readonly value?: object } | undefined }): boolean {
  const { complete } = { complete: false, ...message?.value };
  return message?.$case === "assignments" && !complete;
}

function isHeartbeat({ message }: { readonly message?: { readonly $case: string } | undefined }): boolean {
  return message?.$case === "heartbeat";
}

/** A hello of an agent that could not read all its journals. */
function withHalf(request: ConnectRequest): ConnectRequest {
  if (request.message?.$case !== "hello") return request;
  const { inventory, ...hello } = request.message.value;
  const vms = (inventory?.vms ?? []).filter((_, at) => at % 2 === 0);
  return { message: { $case: "hello", value: { ...hello, inventory: { vms, complete: false } } } };
}
