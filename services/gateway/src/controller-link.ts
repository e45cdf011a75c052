// The gateway's two ways to the controller: the API on behalf of users, and AccessService with its own certificate.
import { connect as connectHttp2, type ClientHttp2Session } from "node:http2";
import type { Channel } from "@grpc/grpc-js";
import type { Identity } from "@pitwall/enroll";
import { AccessServiceDefinition } from "@pitwall/proto/pitwall/v1/access.ts";
import { PitwallError, statusOf, wireDeadline, type Fault } from "@pitwall/runtime";
import { ChannelCredentials, ClientError, createChannel, createClientFactory, type Client } from "nice-grpc";

export type AccessClient = Client<typeof AccessServiceDefinition, { timeoutMs?: number }>;

/** AccessService on the link port. A renewed certificate makes the next call use a new connection. */
export function openAccess(identity: Identity): { client(): AccessClient; close(): void } {
  let current: { channel: Channel; client: AccessClient } | undefined;
  identity.onRenewed(() => {
    const old = current;
    current = undefined;
    if (old) setTimeout(() => old.channel.close(), 30_000).unref(); // calls in flight end on it
  });
  return {
    client() {
      if (!current) {
        const { key, cert, ca } = identity.tls();
        const channel = createChannel(identity.link, ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert)), {
          "grpc.keepalive_time_ms": 10_000,
          "grpc.keepalive_timeout_ms": 5_000,
          "grpc.initial_reconnect_backoff_ms": 100,
          "grpc.max_reconnect_backoff_ms": 1_000,
          "grpc.use_local_subchannel_pool": 1,
        });
        current = { channel, client: createClientFactory().use(wireDeadline).create(AccessServiceDefinition, channel) };
      }
      return current.client;
    },
    close: () => current?.channel.close(),
  };
}

/** What the controller answered, as this process's own error. */
export function fromRpc(error: unknown): unknown {
  if (!(error instanceof ClientError)) return error;
  const fault = (Object.keys(statusOf) as Fault[]).find((name) => statusOf[name] === error.code) ?? "internal"; // the keys of a Record<Fault, …>
  if (fault === "unavailable")
    return new PitwallError("unavailable", "the controller cannot be reached right now; try again", {
      reason: "CONTROLLER_UNREACHABLE",
      cause: error,
    });
  return new PitwallError(fault, error.details, { cause: error });
}

/** One HTTP/2 connection to the controller's API, made again when it is gone. Calls on it are the users'. */
export function openApi(identity: Identity): { session(): ClientHttp2Session; close(): void } {
  let current: ClientHttp2Session | undefined;
  return {
    session() {
      if (!current || current.closed || current.destroyed) {
        const made = connectHttp2(`https://${identity.api}`, { ca: identity.tls().ca, settings: { initialWindowSize: 1 << 20 } });
        const forget = (): void => {
          if (current === made) current = undefined;
        };
        made.on("error", forget).on("close", forget).on("goaway", forget);
        made.setTimeout(0);
        current = made;
      }
      return current;
    },
    close: () => current?.destroy(),
  };
}
