// The program of a simulated VM: powerunit's control service on a UNIX socket, nothing behind it. TCP port 80 answers each HTTP request
// with who it is; other TCP targets echo. What it was told of time and entropy is in its output.
import { rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import {
  GuestControlServiceDefinition,
  GuestState,
  type DialRequest,
  type DialResponse,
  type WatchStateResponse,
} from "@pitwall/proto/pitwall/v1/guest.ts";
import { Health } from "@pitwall/proto/pitwall/v1/vm.ts";
// Not from the index: with all that stands there, each simulated VM would take half as much processor time again to start.
import { toDuration } from "@pitwall/runtime/duration.ts";
import { splice } from "@pitwall/runtime/streams.ts";
import { createServer as createRpcServer, ServerError, Status, type CallContext } from "nice-grpc";

const magic = Buffer.from("PWCHAN1\n");
const preambleBytes = magic.length + 16;
const bootMs = 20;
const httpPort = 80;
const [path, vmId, epoch, ranBefore] = process.argv.slice(2);
if (path === undefined || vmId === undefined || epoch === undefined) throw new Error("usage: guest.ts SOCKET VM EPOCH [MILLISECONDS]");
/** Before it was suspended. */
const ranMs = Number(ranBefore ?? 0);

let state: WatchStateResponse["state"] = ranMs > 0 ? GuestState.GUEST_STATE_READY : GuestState.GUEST_STATE_BOOTING;
const watchers = new Set<() => void>();
const enter = (next: WatchStateResponse["state"]): void => {
  state = next;
  for (const wake of watchers) wake();
};
setTimeout(() => enter(GuestState.GUEST_STATE_READY), bootMs);

function tell(line: string): Record<string, never> {
  process.stdout.write(`${line}\n`);
  return {};
}

/** For who must know which placement of a VM it reached. */
const said = JSON.stringify({ vm: vmId, epoch });
const head = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${said.length}\r\nconnection: close\r\n\r\n`;
const identity = Buffer.from(head + said);

const rpc = createRpcServer();
rpc.add(GuestControlServiceDefinition, {
  async *watchState(_, { signal }: CallContext) {
    for (let told: typeof state | undefined; !signal.aborted;) {
      if (told !== state) {
        told = state;
        yield {
          state: told,
          message: "",
          uptime: toDuration(ranMs + performance.now()),
          powerunitVersion: "sim",
          restartCount: 0,
          health: Health.HEALTH_UNSPECIFIED,
        };
      }
      await new Promise<void>((resolve) => {
        watchers.add(resolve);
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
      watchers.clear();
    }
  },
  async shutdown() {
    enter(GuestState.GUEST_STATE_STOPPING);
    setTimeout(() => process.exit(0), bootMs);
    return {};
  },
  setTime: async ({ time }) => tell(`time ${time?.toISOString() ?? "none"}`),
  addEntropy: async ({ data }) => tell(`entropy ${data.length}`),
  async *dial(requests: AsyncIterable<DialRequest>): AsyncGenerator<DialResponse> {
    let isHttp = false;
    for await (const { message } of requests) {
      if (message?.$case === "data") yield { message: { $case: "data", value: isHttp ? identity : message.value } };
      else if (message?.value.target?.$case === "tcp") {
        isHttp = message.value.target.value.port === httpPort;
        yield { message: { $case: "accepted", value: {} } };
      } else throw new ServerError(Status.UNIMPLEMENTED, "a simulated VM has no SSH and runs nothing");
    }
    yield { message: { $case: "data", value: Buffer.alloc(0) } };
  },
});
const rpcSocket = "rpc.sock";
await rm(rpcSocket, { force: true });
await rpc.listen(`unix:${rpcSocket}`);

let current: Socket | undefined;
createServer((socket) => {
  current?.destroy();
  current = socket;
  greet(socket);
}).listen(path);

/** Answers preambles until something else comes; that begins the session. */
function greet(socket: Socket): void {
  let held = Buffer.alloc(0);
  let greeted = false;
  socket.on("error", () => undefined);
  const onData = (chunk: Buffer): void => {
    held = Buffer.concat([held, chunk]);
    for (;;) {
      const at = held.indexOf(magic);
      if (at >= 0 && held.length >= at + preambleBytes) {
        socket.write(held.subarray(at, at + preambleBytes));
        held = held.subarray(at + preambleBytes);
        greeted = true;
      } else if (greeted && at < 0 && held.length >= magic.length) {
        socket.off("data", onData);
        socket.pause();
        socket.unshift(held);
        void splice(socket, connect(rpcSocket));
        return;
      } else return;
    }
  };
  socket.on("data", onData);
}
