// Nodes that do nothing but answer commands, on the same bare client as the bare peer's: what is compared are the two servers.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ChannelCredentials, makeGenericClientConstructor, type ClientDuplexStream } from "@grpc/grpc-js";
import { ConnectRequest, ConnectResponse, LinkServiceDefinition } from "@pitwall/proto/pitwall/v1/link.ts";
import { z } from "zod";
import { echoMethod } from "./control-echo-service.ts";

const setup = z.object({ stateDir: z.string(), name: z.string(), count: z.number(), link: z.string() });
const identity = z.object({ key: z.string(), certificate: z.string(), ca: z.string() });
/** Handshakes at once. */
const atOnce = 16;
const heartbeatMs = 4_000;

type Stream = ClientDuplexStream<Buffer, Buffer>;
const Client = makeGenericClientConstructor(
  echoMethod(`/${LinkServiceDefinition.fullName}/${LinkServiceDefinition.methods.connect.name}`),
  "Link",
);

const bytesOf = (message: NonNullable<ConnectRequest["message"]>): Buffer => Buffer.from(ConnectRequest.encode({ message }).finish());
const hello = bytesOf({
  $case: "hello",
  value: {
    agentVersion: "bench",
    capability: 2,
    capacity: { cpuMillis: 1000n, memBytes: 1n, diskBytes: 1n }, // no VM is placed here
    drivers: [{ name: "sim", version: "1", acceleration: "none" }],
    labels: {},
    subnet: undefined,
    inventory: { vms: [], complete: true },
  },
});

const firstHeartbeat = bytesOf({ $case: "heartbeat", value: { sequence: 1n, available: undefined } });

/** Resolves once it knows all that it should be. */
async function connect(link: string, path: string): Promise<Stream> {
  const { key, certificate, ca } = identity.parse(JSON.parse(await readFile(path, "utf8")));
  const credentials = ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(certificate));
  const client = new Client(link, credentials, { "grpc.use_local_subchannel_pool": 1 });
  const run = client["run"] as unknown as () => Stream; // as echoMethod says
  const stream = run.call(client);
  const told = Promise.withResolvers<Stream>();
  stream.on("error", () => process.exit(1));
  stream.on("data", (bytes: Buffer) => {
    const { message } = ConnectResponse.decode(bytes);
    if (message?.$case === "welcome") stream.write(firstHeartbeat);
    if (message?.$case === "assignments") told.resolve(stream);
    if (message?.$case !== "imageCommand") return;
    const { requestId } = message.value;
    const value = { requestId, reason: "", message: "", inventory: { images: [] }, freed: undefined };
    stream.write(bytesOf({ $case: "imageAnswer", value }));
  });
  stream.write(hello);
  return told.promise;
}

process.once("message", (message) => {
  const { stateDir, name, count, link } = setup.parse(message);
  const streams: Stream[] = [];
  const left = Array.from({ length: count }, (_, index) => index + 1).values();
  const work = async (): Promise<void> => {
    for (const index of left) streams.push(await connect(link, join(stateDir, "nodes", `${name}-${index}`, "identity.json")));
  };
  let sequence = 1n;
  setInterval(() => {
    const heartbeat = bytesOf({ $case: "heartbeat", value: { sequence: ++sequence, available: undefined } });
    for (const stream of streams) stream.write(heartbeat);
  }, heartbeatMs);
  void Promise.all(Array.from({ length: atOnce }, work)).then(() => process.send?.({ ready: true }));
});
