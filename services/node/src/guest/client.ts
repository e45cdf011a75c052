// gRPC to powerunit over a VM's guest channel. One connection per VM; whoever opens it closes it and opens another when it breaks.
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline, type Duplex } from "node:stream";
import * as wire from "@pitwall/proto/pitwall/v1/guest.ts";
import type { TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import { ChannelCredentials, createChannel, createClient, type Client } from "nice-grpc";
import type { Vmm } from "../machine/vmm.ts";
import { DialStream } from "./dial-stream.ts";

const window = 1 << 20;

/** A live connection to one guest. */
export interface Guest extends AsyncDisposable {
  readonly control: Client<typeof wire.GuestControlServiceDefinition>;
  readonly guest: Client<typeof wire.GuestServiceDefinition>;
  /** Resolves when the channel has broken or was closed. */
  readonly closed: Promise<void>;
  /** A byte stream to a target in the guest. Rejects with the guest's status when it refuses. */
  dial(target: TunnelTarget, signal: AbortSignal): Promise<Duplex>;
}

/** Opens the guest channel of a VM. Rejects with `unavailable` when the signal aborts before the guest answers. */
export async function openGuest(vmm: Vmm, signal: AbortSignal): Promise<Guest> {
  const stream = await vmm.openChannel(signal);
  // grpc-js takes addresses, not streams: it dials this socket once and is joined to the channel.
  const dir = await mkdtemp(join(tmpdir(), "pitwall-guest-"));
  const path = join(dir, "s");
  let markClosed: () => void = () => undefined;
  const closed = new Promise<void>((resolve) => {
    markClosed = resolve;
  });
  const relay = createServer((socket) => {
    relay.close();
    void rm(dir, { recursive: true, force: true }).catch(() => undefined);
    const end = (): void => {
      socket.destroy();
      stream.destroy();
      markClosed();
    };
    if (stream.destroyed || socket.destroyed) return end(); // the VMM ended before the first call: what is closed cannot be piped
    pipeline(socket, stream, () => undefined);
    pipeline(stream, socket, end);
  });
  await new Promise<void>((resolve, reject) => relay.once("error", reject).listen(path, resolve));
  const channel = createChannel(`unix://${path}`, ChannelCredentials.createInsecure(), {
    "grpc-node.flow_control_window": 4 * window,
    "grpc.enable_retries": 0,
    "grpc.max_receive_message_length": window,
  });
  const control = createClient(wire.GuestControlServiceDefinition, channel);
  return {
    control,
    guest: createClient(wire.GuestServiceDefinition, channel),
    closed,
    async dial(target, dialSignal) {
      const start: wire.DialRequest = { message: { $case: "target", value: target } };
      const duplex = new DialStream(start, (requests, callSignal) => control.dial(requests, { signal: callSignal }));
      duplex.on("error", () => undefined); // its user adds a listener of its own; an error before that must not end the process
      const onAbort = (): void => {
        duplex.destroy();
      };
      dialSignal.addEventListener("abort", onAbort, { once: true });
      try {
        await duplex.accepted;
      } finally {
        dialSignal.removeEventListener("abort", onAbort);
      }
      return duplex;
    },
    async [Symbol.asyncDispose]() {
      channel.close();
      relay.close();
      stream.destroy();
      markClosed();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
