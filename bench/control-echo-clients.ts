// The bare peer's clients: a connection and a stream each, and an answer to each message.
import { ChannelCredentials, makeGenericClientConstructor, type ClientDuplexStream } from "@grpc/grpc-js";
import { z } from "zod";
import { echoMethod } from "./control-echo-service.ts";

const setup = z.object({ key: z.string(), cert: z.string(), ca: z.string(), port: z.number(), count: z.number(), answer: z.number() });
/** Handshakes at once. */
const atOnce = 16;

const Client = makeGenericClientConstructor(echoMethod(), "Echo");

process.once("message", (message) => {
  const { key, cert, ca, port, count, answer: bytes } = setup.parse(message);
  const credentials = ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert));
  const answer = Buffer.alloc(bytes, 9);
  const connect = (): Promise<void> =>
    new Promise((resolve) => {
      const client = new Client(`127.0.0.1:${port}`, credentials, { "grpc.use_local_subchannel_pool": 1 });
      const run = client["run"] as unknown as () => ClientDuplexStream<Buffer, Buffer>; // as echoMethod says
      const stream = run.call(client);
      stream.on("error", () => process.exit(1));
      stream.on("data", () => {
        stream.write(answer);
        resolve();
      });
    });
  const left = Array.from({ length: count }).values();
  const work = async (): Promise<void> => {
    for (const _ of left) await connect();
  };
  void Promise.all(Array.from({ length: atOnce }, work)).then(() => process.send?.({ ready: true }));
});
