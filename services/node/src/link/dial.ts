// One session's stream to the controller, over gRPC with the node's certificate.
import type { Channel } from "@grpc/grpc-js";
import type { Identity } from "@pitwall/enroll";
import { LinkServiceDefinition, type ConnectRequest, type ConnectResponse, type Welcome } from "@pitwall/proto/pitwall/v1/link.ts";
import { pulse, type Random } from "@pitwall/runtime";
import { ChannelCredentials, createChannel, createClient } from "nice-grpc";

/** Opens a stream; it ends with the signal, and whatever it held is freed at its end. */
export type DialLink = (requests: AsyncIterable<ConnectRequest>, signal: AbortSignal) => AsyncIterable<ConnectResponse>;

/**
 * Each stream goes to the next controller that is known, beginning with any: so nodes spread, and leave one that is gone.
 * The identity is asked for its certificate each time, and told where controllers are.
 */
export function grpcDial(
  identity: Pick<Identity, "controllers" | "learn" | "tls">,
  random: Random,
  onWelcome: (welcome: Welcome) => void = () => undefined,
): DialLink {
  let last: string | undefined;

  function next(): string {
    const links = identity.controllers().map(({ link }) => link);
    const index = last === undefined ? Math.floor(random() * links.length) : links.indexOf(last) + 1;
    last = links[index % links.length] ?? "";
    return last;
  }

  return async function* dial(requests, signal) {
    const { key, cert, ca } = identity.tls();
    const channel: Channel = createChannel(next(), ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert)), {
      ...pulse,
      "grpc.use_local_subchannel_pool": 1, // a renewed certificate needs a connection of its own
    });
    try {
      for await (const response of createClient(LinkServiceDefinition, channel).connect(requests, { signal })) {
        if (response.message?.$case === "welcome") {
          identity.learn(response.message.value.controllers);
          onWelcome(response.message.value);
        }
        yield response;
      }
    } finally {
      channel.close();
    }
  };
}
