// One session's stream to the controller, over gRPC with the node's certificate.
import type { Channel } from "@grpc/grpc-js";
import type { Identity } from "@pitwall/enroll";
import { LinkServiceDefinition, type ConnectRequest, type ConnectResponse } from "@pitwall/proto/pitwall/v1/link.ts";
import { ChannelCredentials, createChannel, createClient } from "nice-grpc";

/** Opens a stream; it ends with the signal, and whatever it held is freed at its end. */
export type DialLink = (requests: AsyncIterable<ConnectRequest>, signal: AbortSignal) => AsyncIterable<ConnectResponse>;

/** The identity is asked for its certificate each time. */
export function grpcDial(identity: Pick<Identity, "link" | "tls">): DialLink {
  return async function* dial(requests, signal) {
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
    try {
      yield* createClient(LinkServiceDefinition, channel).connect(requests, { signal });
    } finally {
      channel.close();
    }
  };
}
