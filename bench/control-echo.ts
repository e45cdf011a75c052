// The bare peer: a grpc-js server with mutual TLS and one bidirectional stream for each client, which does nothing but echo.
import type { TlsIdentity } from "@pitwall/enroll";
import { z } from "zod";
import { startChild } from "./control-child.ts";

const ready = z.object({ ready: z.literal(true), port: z.number().optional() });
const round = z.object({ messages: z.number(), ms: z.number() });
const memory = z.object({ rssBytes: z.number(), heapBytes: z.number(), streams: z.number() });

export interface EchoMessages {
  /** Sizes in bytes. */
  readonly command: number;
  readonly answer: number;
}

/** Disposing it ends the server and all clients. */
export interface EchoPeer extends AsyncDisposable {
  /** Connects so many clients more. Resolves when all of them have their stream. */
  connect(count: number): Promise<void>;
  /** Sends each client a message, waits for all answers, and again until the time is over. */
  run(forMs: number): Promise<z.output<typeof round>>;
  /** Of the server, after a garbage collection. */
  memory(): Promise<z.output<typeof memory>>;
}

export async function startEcho(identity: TlsIdentity, server: { key: string; chain: string }, sizes: EchoMessages): Promise<EchoPeer> {
  await using parts = new AsyncDisposableStack();
  const serving = parts.use(startChild("control-echo-server.ts"));
  const { port } = ready.parse(await serving.ask({ ...server, ca: identity.ca, ...sizes }));
  const kept = parts.move();
  return {
    async connect(count) {
      const clients = kept.use(startChild("control-echo-clients.ts"));
      ready.parse(await clients.ask({ ...identity, port, count, ...sizes }));
    },
    run: async (forMs) => round.parse(await serving.ask({ run: forMs })),
    memory: async () => memory.parse(await serving.ask({ memory: true })),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}
