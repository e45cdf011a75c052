// Calls to other controllers, one connection to each.
import type { Channel } from "@grpc/grpc-js";
import { RelayServiceDefinition } from "@pitwall/proto/pitwall/v1/relay.ts";
import { keepalive, PitwallError, wireDeadline } from "@pitwall/runtime";
import { ChannelCredentials, ClientError, createChannel, createClientFactory, type Client } from "nice-grpc";
import type { KeyPair } from "../ca/ca.ts";
import { noLink, type Relay } from "../nodes/links.ts";

const tunnelLimitMs = 5_000;
/** A pull takes as long as it takes; its caller says when to give up. */
const askLimitMs = 30 * 60_000;

type RelayClient = Client<typeof RelayServiceDefinition, { timeoutMs?: number }>;

/** Disposing it closes the connections. `keys` are this controller's own, `ca` the installation's. */
export function openRelay(keys: KeyPair, ca: string): Relay & Disposable {
  const open = new Map<string, { readonly channel: Channel; readonly client: RelayClient }>();

  function to(address: string): RelayClient {
    let known = open.get(address);
    if (!known) {
      const credentials = ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(keys.key), Buffer.from(keys.chain));
      const channel = createChannel(address, credentials, { ...keepalive, "grpc.initial_reconnect_backoff_ms": 200 });
      known = { channel, client: createClientFactory().use(wireDeadline).create(RelayServiceDefinition, channel) };
      open.set(address, known);
    }
    return known.client;
  }

  return {
    async ask(address, nodeId, command, signal) {
      const request = { nodeId, command: { requestId: "", command } };
      const { answer } = await to(address)
        .relayImageCommand(request, { signal, timeoutMs: askLimitMs })
        .catch((error: unknown) => refused(error));
      if (!answer) throw noLink();
      return answer;
    },
    async askNetwork(address, nodeId, command, signal) {
      const request = { nodeId, command: { requestId: "", command } };
      const { answer } = await to(address)
        .relayNetworkCommand(request, { signal, timeoutMs: tunnelLimitMs })
        .catch((error: unknown) => refused(error));
      if (!answer) throw noLink();
      return answer;
    },
    async tunnel(address, nodeId, tunnel, signal) {
      await to(address)
        .relayTunnel({ nodeId, tunnel }, { signal, timeoutMs: tunnelLimitMs })
        .catch((error: unknown) => refused(error));
    },
    async assign(address, nodeId, assignments) {
      await to(address)
        .relayAssignments({ nodeId, assignments: [...assignments] }, { timeoutMs: tunnelLimitMs })
        .catch((error: unknown) => refused(error));
    },
    [Symbol.dispose]() {
      for (const { channel } of open.values()) channel.close();
    },
  };
}

/** That a controller is gone is no other news than that it no longer holds the link. */
function refused(error: unknown): never {
  if (!(error instanceof ClientError)) throw error;
  throw new PitwallError("unavailable", "the VM's node has no link to a controller right now; try again", {
    reason: "NODE_UNREACHABLE",
    cause: error,
  });
}
