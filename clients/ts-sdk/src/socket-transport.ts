// Calls with a stream of requests, over a WebSocket each: what `fetch` in browsers cannot do. The protocol: docs/gateway.md.
//
// Credit is what either side may send before the other says that it has read: a WebSocket itself reads on, whatever its page does.
import { Metadata, Status } from "nice-grpc-common";
import { FetchTransport, type createChannel } from "nice-grpc-web";

type Transport = NonNullable<Parameters<typeof createChannel>[1]>;

const protocol = "pitwall-grpc.v1";
const kinds = { data: 0, headers: 1, halfClose: 2, credit: 3, trailers: 4 } as const;
const maxDataBytes = 64 * 1024;
const firstCreditBytes = 256 * 1024;
const minCostBytes = 256;

/** Calls whose requests are a stream over WebSocket, others with `fetch`. */
export function anyTransport(): Transport {
  const fetching = FetchTransport();
  return (params) => (params.method.requestStream ? overSocket(params) : fetching(params));
}

/** Any call over WebSocket. */
export const overSocket: Transport = async function* ({ url, body, metadata, signal }) {
  signal.throwIfAborted();
  const socket = openSocket(url);
  const events = new Events();
  const sender = new Sender(socket);
  socket.onopen = () => void sender.send(metadata, body).catch(() => undefined); // a body that fails aborts the signal
  socket.onmessage = ({ data }) => {
    const message = data instanceof ArrayBuffer ? new Uint8Array(data) : undefined;
    if (message?.[0] === kinds.credit) sender.granted(new DataView(message.buffer).getUint32(1));
    else events.add(message ?? "odd");
  };
  socket.onclose = ({ code, reason }) => events.add({ code, reason });
  const abort = (): void => events.add("aborted");
  signal.addEventListener("abort", abort);
  let read = 0;
  try {
    for (;;) {
      const event = await events.next();
      if (event === "aborted") signal.throwIfAborted();
      const [kind, rest] = event instanceof Uint8Array ? [event[0], event.subarray(1)] : [];
      if (rest && kind === kinds.headers) yield { type: "header" as const, header: parseLines(rest) };
      else if (rest && kind === kinds.data) {
        yield { type: "data" as const, data: rest }; // until its reader wants more
        read += costOf(rest.length);
        if (read < firstCreditBytes / 2) continue;
        sender.grant(read);
        read = 0;
      } else {
        yield { type: "trailer" as const, trailer: rest && kind === kinds.trailers ? parseLines(rest) : lost(event) };
        return;
      }
    }
  } finally {
    signal.removeEventListener("abort", abort);
    sender.stop();
    socket.close();
  }
};

function openSocket(url: string): WebSocket {
  const address = new URL(url);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address, protocol);
  socket.binaryType = "arraybuffer";
  return socket;
}

type SocketEvent = Uint8Array | "aborted" | "odd" | { readonly code: number; readonly reason: string };

/** Of the socket, in order. */
class Events {
  readonly #waiting: SocketEvent[] = [];
  #wake: (() => void) | undefined;

  add(event: SocketEvent): void {
    // Nobody who aborts wants to read first what has come.
    if (event === "aborted") this.#waiting.unshift(event);
    else this.#waiting.push(event);
    this.#wake?.();
  }

  async next(): Promise<SocketEvent> {
    for (;;) {
      const event = this.#waiting.shift();
      if (event !== undefined) return event;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** What goes up, as far as the gateway has granted credit. */
class Sender {
  readonly #socket: WebSocket;
  #credit = firstCreditBytes;
  #isStopped = false;
  #wake: (() => void) | undefined;

  constructor(socket: WebSocket) {
    this.#socket = socket;
  }

  async send(metadata: Metadata, body: AsyncIterable<Uint8Array>): Promise<void> {
    this.#say(kinds.headers, new TextEncoder().encode(headerLines(metadata)));
    for await (const chunk of body) {
      for (let at = 0; at < chunk.length && (await this.#hasCredit());) {
        const part = chunk.subarray(at, at + Math.min(this.#credit, maxDataBytes));
        this.#say(kinds.data, part);
        this.#credit -= costOf(part.length);
        at += part.length;
      }
      if (this.#isStopped) return;
    }
    this.#say(kinds.halfClose, new Uint8Array());
  }

  grant(count: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, count);
    this.#say(kinds.credit, bytes);
  }

  granted(count: number): void {
    this.#credit += count;
    this.#wake?.();
  }

  stop(): void {
    this.#isStopped = true;
    this.#wake?.();
  }

  /** Waits for it; false: nothing more is to be sent. */
  async #hasCredit(): Promise<boolean> {
    while (!this.#isStopped && this.#credit < minCostBytes)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return !this.#isStopped;
  }

  #say(kind: number, bytes: Uint8Array): void {
    if (this.#isStopped || this.#socket.readyState !== WebSocket.OPEN) return;
    const message = new Uint8Array(1 + bytes.length);
    message[0] = kind;
    message.set(bytes, 1);
    this.#socket.send(message);
  }
}

function costOf(bytes: number): number {
  return Math.max(bytes, minCostBytes);
}

/** The status of a call whose connection ended without one. */
function lost(event: SocketEvent): Metadata {
  const why =
    typeof event === "object" && "reason" in event ? `code ${event.code}${event.reason && `: ${event.reason}`}` : "it makes no sense";
  const message = encodeURIComponent(`the connection to the gateway ended without a status: ${why}`);
  return Metadata({ "grpc-status": String(Status.UNAVAILABLE), "grpc-message": message });
}

function headerLines(metadata: Metadata): string {
  return [...metadata]
    .flatMap(([name, values]) => values.map((value) => `${name}: ${typeof value === "string" ? value : toBase64(value)}\r\n`))
    .join("");
}

function parseLines(bytes: Uint8Array): Metadata {
  const metadata = Metadata();
  for (const line of new TextDecoder().decode(bytes).split("\r\n")) {
    const at = line.indexOf(":");
    if (at < 0) continue;
    const [name, value] = [line.slice(0, at), line.slice(at + 1).trim()];
    if (name.endsWith("-bin")) for (const one of value.split(/,\s?/)) metadata.append(name, fromBase64(one));
    else metadata.append(name, value);
  }
  return metadata;
}

function toBase64(bytes: Uint8Array): string {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
