// The node's end of the link: connects, says hello with all it has, heartbeats, reports; and again after each break.
import type { Channel } from "@grpc/grpc-js";
import type { Identity } from "@pitwall/enroll";
import {
  LinkServiceDefinition,
  type Assignments,
  type ConnectRequest,
  type Hello,
  type ImageAnswer,
  type ImageCommand,
  type TunnelRequest,
  type VmReport,
  type Welcome,
} from "@pitwall/proto/pitwall/v1/link.ts";
import type { Resources } from "@pitwall/proto/pitwall/v1/node.ts";
import { backoff, fromDuration, Outbox, PitwallError, sleepOrAbort, systemClock, type Log } from "@pitwall/runtime";
import { ChannelCredentials, createChannel, createClient } from "nice-grpc";

const outboxLimit = 10_000;
const welcomeLimitMs = 10_000;

export interface LinkHandlers {
  /** What the node has when a session begins. */
  hello(): Hello;
  available(): Promise<Resources>;
  onAssignments(assignments: Assignments): Promise<void>;
  /** Resolves to the reason when it did not work. */
  onTunnel(request: TunnelRequest): Promise<{ reason: string; tokenDigest: string } | undefined>;
  /** Never rejects. The signal aborts with the session. */
  onImageCommand(command: ImageCommand, signal: AbortSignal): Promise<ImageAnswer>;
}

/** Disposing it says goodbye. */
export interface Link extends AsyncDisposable {
  /** Sends a report if a session is up; otherwise the next hello says it. */
  report(report: VmReport): void;
}

/** Keeps a session with the controller until it is disposed. */
export function openLink(identity: Identity, handlers: LinkHandlers, log: Log): Link {
  const stop = new AbortController();
  let outbox: Outbox<ConnectRequest> | undefined;

  async function session(): Promise<void> {
    const { key, cert, ca } = identity.tls();
    const channel: Channel = createChannel(
      identity.link,
      ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert)),
      {
        "grpc.keepalive_time_ms": 10_000,
        "grpc.keepalive_timeout_ms": 5_000,
        "grpc.use_local_subchannel_pool": 1, // a renewed certificate needs a connection of its own
      },
    );
    const abort = new AbortController();
    const signal = AbortSignal.any([stop.signal, abort.signal]);
    const messages = new Outbox<ConnectRequest>(outboxLimit);
    const giveUp = (why: string): void => abort.abort(new PitwallError("unavailable", why));
    const watchdog = new Watchdog(giveUp);
    try {
      messages.push({ message: { $case: "hello", value: handlers.hello() } });
      outbox = messages;
      watchdog.expectWithin(welcomeLimitMs);
      for await (const { message } of createClient(LinkServiceDefinition, channel).connect(messages, { signal })) {
        switch (message?.$case) {
          case "welcome":
            log.info("linked", { session: message.value.sessionEpoch });
            retry.reset();
            void heartbeats(message.value, messages, watchdog, signal);
            break;
          case "heartbeatAck":
            watchdog.heard();
            break;
          case "assignments":
            await handlers.onAssignments(message.value);
            break;
          case "tunnel":
            void tunnel(message.value, messages);
            break;
          case "imageCommand":
            void handlers
              .onImageCommand(message.value, signal)
              .then((value) => messages.push({ message: { $case: "imageAnswer", value } }));
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
      channel.close();
    }
  }

  async function heartbeats(welcome: Welcome, messages: Outbox<ConnectRequest>, watchdog: Watchdog, signal: AbortSignal): Promise<void> {
    const interval = welcome.heartbeatInterval ? fromDuration(welcome.heartbeatInterval) : 2_000;
    watchdog.expectWithin(welcome.leaseTtl ? fromDuration(welcome.leaseTtl) : 10_000);
    for (let sequence = 1n; !signal.aborted; sequence++) {
      const available = await handlers.available().catch(() => undefined);
      messages.push({ message: { $case: "heartbeat", value: { sequence, available } } });
      await sleepOrAbort(interval, signal);
    }
  }

  async function tunnel(request: TunnelRequest, messages: Outbox<ConnectRequest>): Promise<void> {
    const refusal = await handlers.onTunnel(request);
    if (refusal) messages.push({ message: { $case: "tunnelRefusal", value: { vmId: request.vmId, ...refusal } } });
  }

  const retry = backoff(200, 5_000);
  const running = (async () => {
    while (!stop.signal.aborted) {
      await session().catch((error: unknown) => {
        if (!stop.signal.aborted) log.warn("no link to the controller", { error });
      });
      await sleepOrAbort(50 + retry.nextMs(), stop.signal);
    }
  })();

  return {
    report(report) {
      outbox?.push({ message: { $case: "report", value: report } });
    },
    async [Symbol.asyncDispose]() {
      outbox?.push({ message: { $case: "goodbye", value: { reason: "the agent stops" } } });
      outbox?.close();
      await systemClock.sleep(outbox ? 50 : 0); // what is queued goes out
      stop.abort();
      await running;
    },
  };
}

/** Gives up when nothing was heard for the agreed time. */
class Watchdog {
  readonly #giveUp: (why: string) => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(giveUp: (why: string) => void) {
    this.#giveUp = giveUp;
  }

  expectWithin(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#giveUp(`the controller was silent for ${ms} ms`), ms);
  }

  heard(): void {
    this.#timer?.refresh();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
