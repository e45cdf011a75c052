// The bare peer's server, in a process of its own. Told what to do over IPC.
import { Server, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import { z } from "zod";
import { echoMethod } from "./control-echo-service.ts";

const setup = z.object({ key: z.string(), chain: z.string(), ca: z.string(), command: z.number() });
const order = z.union([z.object({ run: z.number() }), z.object({ memory: z.literal(true) })]);
type Stream = ServerDuplexStream<Buffer, Buffer>;

const streams = new Set<Stream>();
let command = Buffer.alloc(0);
let missing = 0;
let onAllAnswered: () => void = () => undefined;

async function listen({ key, chain, ca, command: bytes }: z.output<typeof setup>): Promise<void> {
  command = Buffer.alloc(bytes, 7);
  const server = new Server();
  server.addService(echoMethod(), {
    run(stream: Stream) {
      streams.add(stream);
      stream.on("data", () => {
        if (--missing === 0) onAllAnswered();
      });
      stream.on("cancelled", () => streams.delete(stream));
      stream.write(command); // tells the client that it is there
      missing++;
    },
  });
  const credentials = ServerCredentials.createSsl(
    Buffer.from(ca),
    [{ private_key: Buffer.from(key), cert_chain: Buffer.from(chain) }],
    true,
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  process.send?.({ ready: true, port });
}

async function rounds(forMs: number): Promise<void> {
  const begun = performance.now();
  let messages = 0;
  while (performance.now() - begun < forMs) {
    const answered = new Promise<void>((resolve) => (onAllAnswered = resolve));
    missing = streams.size;
    for (const stream of streams) stream.write(command);
    await answered;
    messages += streams.size;
  }
  process.send?.({ messages, ms: performance.now() - begun });
}

process.once("message", (first) => {
  process.on("message", (message) => {
    const wanted = order.parse(message);
    if ("run" in wanted) return void rounds(wanted.run);
    globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
    const { rss, heapUsed } = process.memoryUsage();
    process.send?.({ rssBytes: rss, heapBytes: heapUsed, streams: streams.size });
  });
  void listen(setup.parse(first));
});
