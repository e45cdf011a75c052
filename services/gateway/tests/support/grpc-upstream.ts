// A real gRPC server in tests, whose messages are bytes as they are, with one method of each kind.
import { once } from "node:events";
import { Metadata } from "nice-grpc-common";
import { createServer, ServerError, Status, type CallContext } from "nice-grpc";
import { BadRequest, errorDetailsServerMiddleware, RichServerError } from "nice-grpc-error-details";

const asIs = (bytes: Uint8Array): Uint8Array => bytes;
const codec = {
  requestSerialize: asIs,
  requestDeserialize: asIs,
  responseSerialize: asIs,
  responseDeserialize: asIs,
  options: {},
} as const;
const method = <Req extends boolean, Res extends boolean>(name: string, requestStream: Req, responseStream: Res) =>
  ({ path: `/test.Bytes/${name}`, requestStream, responseStream, ...codec }) as const;

export const bytesDefinition = {
  /** All requests in one. */
  collect: method("Collect", true, false),
  /** Each request again; one of "fail" ends it with a status, one of "end" well. */
  echo: method("Echo", true, true),
  /** The request again. */
  one: method("One", false, false),
  /** As many messages as the request says, of so many bytes each: "COUNT SIZE". */
  many: method("Many", false, true),
  /** Reads nothing and says nothing, until it is cancelled. */
  hang: method("Hang", true, true),
} as const;

const maxMessageBytes = 64 * 2 ** 20;

export interface BytesUpstream extends AsyncDisposable {
  readonly port: number;
  /** What was seen of calls, in order: `begun`, `cancelled`, `sent N`. */
  readonly seen: string[];
  /** Resolves when that has been seen. */
  saw(what: string): Promise<void>;
  /** Metadata of the latest call. */
  metadata(): Metadata;
}

export async function openBytesUpstream(): Promise<BytesUpstream> {
  const seen: string[] = [];
  const watchers = new Set<() => void>();
  let metadata = Metadata();
  const see = (what: string): void => {
    seen.push(what);
    for (const watcher of watchers) watcher();
  };
  const begin = (context: CallContext): void => {
    ({ metadata } = context);
    context.signal.addEventListener("abort", () => see("cancelled"));
    if (metadata.has("want-header")) {
      context.header.set("x-begin", ["1", "2"]).set("y-bin", Buffer.from([0, 1, 255]));
      context.sendHeader();
    }
    context.trailer.set("x-end", "3").set("z-bin", Buffer.from([254, 0]));
    see("begun");
  };
  const server = createServer({ "grpc.max_receive_message_length": maxMessageBytes, "grpc.max_send_message_length": maxMessageBytes }).use(
    errorDetailsServerMiddleware,
  );
  server.add(bytesDefinition, {
    async collect(requests: AsyncIterable<Uint8Array>, context: CallContext) {
      begin(context);
      const all: Uint8Array[] = [];
      for await (const request of requests) all.push(request);
      see("ended");
      return Buffer.concat(all);
    },
    async *echo(requests: AsyncIterable<Uint8Array>, context: CallContext) {
      begin(context);
      for await (const request of requests) {
        const text = request.length < 10 ? Buffer.from(request).toString() : "";
        if (text === "end") return;
        if (text === "fail") throw failure();
        yield request;
      }
      see("ended");
    },
    async one(request: Uint8Array, context: CallContext) {
      begin(context);
      if (Buffer.from(request).toString() === "fail") throw failure();
      return request;
    },
    async *many(request: Uint8Array, context: CallContext) {
      begin(context);
      const [count = 0, size = 0] = Buffer.from(request).toString().split(" ").map(Number);
      for (let at = 0; at < count; at++) {
        yield Buffer.alloc(size, at);
        see(`sent ${at + 1}`);
      }
    },
    // oxlint-disable-next-line require-yield -- it says nothing
    async *hang(_: AsyncIterable<Uint8Array>, context: CallContext) {
      begin(context);
      if (!context.signal.aborted) await once(context.signal, "abort");
      throw new ServerError(Status.CANCELLED, "cancelled");
    },
  });
  const port = await server.listen("127.0.0.1:0");
  return {
    port,
    seen,
    async saw(what) {
      while (!seen.includes(what)) {
        await new Promise<void>((resolve) => {
          const watcher = (): void => {
            watchers.delete(watcher);
            resolve();
          };
          watchers.add(watcher);
        });
      }
    },
    metadata: () => metadata,
    [Symbol.asyncDispose]: async () => server.forceShutdown(),
  };
}

function failure(): RichServerError {
  return new RichServerError(Status.FAILED_PRECONDITION, "não 100 % möglich", [
    BadRequest.create({ fieldViolations: [{ field: "name", description: "taken" }] }),
  ]);
}
