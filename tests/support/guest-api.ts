// GuestService as a program on a server calls it: native gRPC, with calls that stream both ways, which browsers cannot.
import { GuestServiceDefinition } from "@pitwall/proto/pitwall/v1/guest.ts";
import { ChannelCredentials, createChannel, createClient, Metadata, type Channel, type Client } from "nice-grpc";
import type { Stack } from "@pitwall/quickstart";

export interface GuestApi extends Disposable {
  readonly api: Client<typeof GuestServiceDefinition>;
}

/** A client for one VM. */
export async function guestApi(stack: Stack, vm: string): Promise<GuestApi> {
  const channel: Channel = createChannel(new URL(stack.endpoint).host, ChannelCredentials.createInsecure());
  const metadata = Metadata({ authorization: `Bearer ${await stack.token()}`, "pitwall-vm": vm });
  const api = createClient(GuestServiceDefinition, channel, { "*": { metadata } });
  return { api, [Symbol.dispose]: () => channel.close() };
}
