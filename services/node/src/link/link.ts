// The node's end of the link: connects, says hello with all it has, heartbeats, reports; and again after each break.
import type {
  Assignment,
  Assignments,
  ConnectRequest,
  Hello,
  ImageAnswer,
  ImageCommand,
  NetworkAnswer,
  NetworkCommand,
  TunnelRequest,
  Welcome,
} from "@pitwall/proto/pitwall/v1/link.ts";
import { VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { Resources } from "@pitwall/proto/pitwall/v1/node.ts";
import {
  backoff,
  fromDuration,
  inParts,
  Outbox,
  partOf,
  PitwallError,
  sleepOrAbort,
  Whole,
  type Clock,
  type Failpoints,
  type Log,
  type Random,
  type SendName,
} from "@pitwall/runtime";
import type { DialLink } from "./dial.ts";
import type { Lease } from "./lease.ts";

const outboxLimit = 10_000;
/** Lists of assignments that may wait for the one that is being taken. */
const listsLimit = 10_000;
const welcomeLimitMs = 10_000;
/** Of an inventory, in one message: half of what a controller reads. */
const partBytes = 512 * 1024;
/** Images that are said. */
const heldLimit = 512;
/** VMs of one node. */
const listLimit = 100_000;

export interface LinkHandlers {
  /** What the node has when a session begins. */
  hello(): Hello;
  available(): Promise<Resources>;
  onAssignments(assignments: Assignments): Promise<void>;
  /** Resolves to the reason when it did not work. */
  onTunnel(request: TunnelRequest): Promise<{ reason: string; tokenDigest: string } | undefined>;
  /** Never rejects. The signal aborts with the session. */
  onImageCommand(command: ImageCommand, signal: AbortSignal): Promise<ImageAnswer>;
  /** Digests of the images that the node can boot from without a pull; absent: they are not said. */
  readonly heldImages?: () => Promise<readonly string[]>;
  /** Never rejects. */
  onNetworkCommand(command: NetworkCommand): Promise<NetworkAnswer>;
}

/** Disposing it says goodbye. */
export interface Link extends AsyncDisposable {
  /** Sends a report if a session is up; otherwise the next hello says it. */
  report(report: VmReport): void;
  /** Ends the session, if there is one, so that the next tells anew what this node should be. */
  startAnew(why: string): void;
}

export interface LinkParts {
  readonly dial: DialLink;
  readonly lease: Lease;
  readonly clock: Clock;
  readonly random: Random;
  readonly failpoints: Failpoints;
  readonly log: Log;
}

/** Keeps a session with the controller until it is disposed. */
export function openLink({ dial, lease, clock, random, failpoints, log }: LinkParts, handlers: LinkHandlers): Link {
  const stop = new AbortController();
  let outbox: Outbox<ConnectRequest> | undefined;
  let giveUpSession: (why: string) => void = () => undefined;

  async function session(): Promise<void> {
    const abort = new AbortController();
    const signal = AbortSignal.any([stop.signal, abort.signal]);
    const messages = new Outbox<ConnectRequest>(outboxLimit);
    const giveUp = (why: string): void => abort.abort(new PitwallError("unavailable", why));
    giveUpSession = giveUp;
    const watchdog = new Watchdog(clock, giveUp);
    const lists = new Outbox<Assignments>(listsLimit);
    const whole = new Whole<Assignment>(listLimit);
    const taking = takeLists(lists, signal).catch((error: unknown) => abort.abort(error));
    try {
      for (const message of helloOf(handlers.hello())) messages.push({ message });
      outbox = messages; // at once: what is reported from now on, the hello does not say
      lease.sent(0n);
      await failpoints.at("rejoin.inventory.sent");
      watchdog.expectWithin(welcomeLimitMs);
      for await (const { message } of dial(messages, signal)) {
        switch (message?.$case) {
          case "welcome":
            log.info("linked", { session: message.value.sessionEpoch });
            retry.reset();
            void heartbeats(message.value, messages, watchdog, signal).catch((error: unknown) => abort.abort(error));
            await lease.welcomed(message.value.leaseTtl ? fromDuration(message.value.leaseTtl) : 0);
            break;
          case "heartbeatAck":
            watchdog.heard();
            await lease.acknowledged(message.value.sequence);
            break;
          case "assignments": {
            const all = whole.add(message.value.assignments, message.value);
            const complete = message.value.complete || message.value.partCount !== undefined;
            if (all && !lists.push({ assignments: [...all], complete })) giveUp("more is asked for than this node can take");
            break;
          }
          case "tunnel":
            void tunnel(message.value, messages);
            break;
          case "imageCommand":
            void handlers
              .onImageCommand(message.value, signal)
              .then((value) => messages.push({ message: { $case: "imageAnswer", value } }));
            break;
          case "networkCommand":
            void handlers.onNetworkCommand(message.value).then((value) => messages.push({ message: { $case: "networkAnswer", value } }));
            break;
          case "goodbye":
            log.info("the controller drains", { reason: message.value.reason });
            return;
          case undefined:
            break; // of a newer controller
        }
      }
    } finally {
      outbox = undefined;
      watchdog.stop();
      messages.close();
      abort.abort();
      lists.close();
      await taking; // the next hello tells what came of it
    }
  }

  /** Beside the reading, so that acknowledged heartbeats do not wait for the disk. What waits at the end of the session is dropped. */
  async function takeLists(lists: AsyncIterable<Assignments>, signal: AbortSignal): Promise<void> {
    for await (const list of lists) {
      if (signal.aborted) return;
      await takeAssignments(list);
    }
  }

  /** A complete list is the first of its session: with it this node knows all that it should be. */
  async function takeAssignments(assignments: Assignments): Promise<void> {
    if (assignments.complete) await failpoints.at("rejoin.snapshot.received");
    await handlers.onAssignments(assignments);
    if (!assignments.complete) return;
    await failpoints.at("rejoin.diff.applied");
    await failpoints.at("rejoin.ready");
  }

  async function heartbeats(welcome: Welcome, messages: Outbox<ConnectRequest>, watchdog: Watchdog, signal: AbortSignal): Promise<void> {
    const interval = welcome.heartbeatInterval ? fromDuration(welcome.heartbeatInterval) : 2_000;
    watchdog.expectWithin(welcome.leaseTtl ? fromDuration(welcome.leaseTtl) : 10_000);
    let held: string | undefined;
    for (let sequence = 1n; !signal.aborted; sequence++) {
      const available = await handlers.available().catch(() => undefined);
      lease.sent(sequence);
      // Ahead of reports: the lease of all VMs must not wait for what some have to say.
      const message: ConnectRequest = { message: { $case: "heartbeat", value: { sequence, available } } };
      send((one) => messages.pushAhead(one), message, "lease.sent");
      held = await sayImages(messages, held);
      await sleepOrAbort(interval, signal, clock);
    }
  }

  /** Once in a session, and when they are others than those that were said: returns what is said by now. */
  async function sayImages(messages: Outbox<ConnectRequest>, said: string | undefined): Promise<string | undefined> {
    const digests = await handlers.heldImages?.().catch(() => undefined);
    const now = digests?.slice(0, heldLimit);
    if (!now || now.join() === said) return said;
    messages.push({ message: { $case: "heldImages", value: { digests: now } } });
    return now.join();
  }

  async function tunnel(request: TunnelRequest, messages: Outbox<ConnectRequest>): Promise<void> {
    const refusal = await handlers.onTunnel(request);
    if (refusal) messages.push({ message: { $case: "tunnelRefusal", value: { vmId: request.vmId, ...refusal } } });
  }

  function send(push: (message: ConnectRequest) => unknown, message: ConnectRequest, place: SendName, subject?: string): void {
    const sending = failpoints.sending(place, subject);
    if (sending !== "never") push(message);
    if (sending === "twice") push(message);
  }

  const retry = backoff(200, 5_000, random);
  const running = (async () => {
    while (!stop.signal.aborted) {
      await session().catch((error: unknown) => {
        if (!stop.signal.aborted) log.warn("no link to the controller", { error });
      });
      await sleepOrAbort(50 + retry.nextMs(), stop.signal, clock);
    }
  })();

  return {
    report(report) {
      const place = report.phase === Phase.PHASE_GONE ? "delete.node.reported" : "create.node.reported";
      send((one) => outbox?.push(one), { message: { $case: "report", value: report } }, place, report.vmId);
    },
    startAnew: (why) => giveUpSession(why),
    async [Symbol.asyncDispose]() {
      outbox?.push({ message: { $case: "goodbye", value: { reason: "the agent stops" } } });
      outbox?.close();
      await clock.sleep(outbox ? 50 : 0); // what is queued goes out
      stop.abort();
      await running;
    },
  };
}

/** A hello, and behind it what of its inventory does not fit into it. */
function helloOf(hello: Hello): NonNullable<ConnectRequest["message"]>[] {
  const { vms = [], complete = false } = hello.inventory ?? {};
  const parts = inParts(vms, (report) => VmReport.encode(report).finish().length, partBytes);
  const inventories = parts.map((some, index) => ({
    ...{ vms: some, complete: complete && parts.length === 1 },
    ...partOf(index, parts.length),
  }));
  const [inventory, ...rest] = inventories;
  return [{ $case: "hello", value: { ...hello, inventory } }, ...rest.map((value) => ({ $case: "inventory" as const, value }))];
}

/** Gives up when nothing was heard for the agreed time. */
class Watchdog {
  readonly #clock: Clock;
  readonly #giveUp: (why: string) => void;
  #limitMs = 0;
  #heardMs = 0;
  #timer: Disposable | undefined;

  constructor(clock: Clock, giveUp: (why: string) => void) {
    this.#clock = clock;
    this.#giveUp = giveUp;
  }

  expectWithin(ms: number): void {
    this.#limitMs = ms;
    this.heard();
    this.stop();
    this.#look();
  }

  /** Costs nothing: the timer looks at it when it fires. */
  heard(): void {
    this.#heardMs = this.#clock.monotonicMs();
  }

  stop(): void {
    this.#timer?.[Symbol.dispose]();
  }

  #look(): void {
    const leftMs = this.#heardMs + this.#limitMs - this.#clock.monotonicMs();
    if (leftMs <= 0) this.#giveUp(`the controller was silent for ${this.#limitMs} ms`);
    else this.#timer = this.#clock.after(leftMs, () => this.#look());
  }
}
