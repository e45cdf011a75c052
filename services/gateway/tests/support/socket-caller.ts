// A raw client of calls over WebSocket, which says what a test says.
import { WebSocket } from "ws";

export const kinds = { data: 0, headers: 1, halfClose: 2, credit: 3, trailers: 4 } as const;

export interface Closed {
  readonly code: number;
  readonly reason: string;
}

interface Opening {
  readonly path?: string;
  readonly protocol?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** With TLS, whatever the certificate. */
  readonly isSecure?: boolean;
}

/** Resolves when it is open. Rejects with the HTTP status that it was refused with. */
export async function openSocket(
  port: number,
  { path = "/test.Bytes/Echo", protocol = "pitwall-grpc.v1", headers = {}, isSecure = false }: Opening = {},
): Promise<SocketCaller> {
  const socket = new WebSocket(`${isSecure ? "wss" : "ws"}://127.0.0.1:${port}${path}`, protocol === "" ? [] : [protocol], {
    headers,
    rejectUnauthorized: false,
  });
  const caller = new SocketCaller(socket);
  await new Promise<void>((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("unexpected-response", (_, { statusCode }) => reject(new Error(`HTTP status ${statusCode}`)));
    socket.once("error", reject);
  });
  return caller;
}

export class SocketCaller implements Disposable {
  readonly socket: WebSocket;
  readonly #messages: Buffer[] = [];
  #wake: () => void = () => undefined;
  readonly closed: Promise<Closed>;
  isClosed = false;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on("error", () => undefined);
    socket.on("message", (message: Buffer) => {
      this.#messages.push(message);
      this.#wake();
    });
    this.closed = new Promise((resolve) =>
      socket.once("close", (code, reason) => {
        this.isClosed = true;
        this.#wake();
        resolve({ code, reason: reason.toString() });
      }),
    );
  }

  say(kind: number, bytes: Uint8Array | string = ""): this {
    this.socket.send(Buffer.concat([Buffer.from([kind]), Buffer.from(bytes)]));
    return this;
  }

  begin(headers: Readonly<Record<string, string>> = {}): this {
    return this.say(
      kinds.headers,
      Object.entries(headers)
        .map(([name, value]) => `${name}: ${value}\r\n`)
        .join(""),
    );
  }

  /** A message of gRPC, whole. */
  message(text: Uint8Array | string): this {
    return this.say(kinds.data, framed(text));
  }

  halfClose(): this {
    return this.say(kinds.halfClose);
  }

  grant(count: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(count);
    return this.say(kinds.credit, bytes);
  }

  /** The next message; undefined when it is closed. */
  async next(): Promise<{ kind: number; bytes: Buffer } | undefined> {
    while (this.#messages.length === 0 && !this.isClosed) await new Promise<void>((resolve) => (this.#wake = resolve));
    const message = this.#messages.shift();
    return message && { kind: message[0] ?? -1, bytes: message.subarray(1) };
  }

  /** Of all that comes: header lines, what data carries, and trailer lines; grants what it reads. */
  async all(): Promise<{ headers: string[]; data: Buffer; trailers: string[] }> {
    let [headers, trailers]: string[][] = [[], []];
    const data: Buffer[] = [];
    for (let next = await this.next(); next; next = await this.next()) {
      if (next.kind === kinds.headers) headers = linesOf(next.bytes);
      if (next.kind === kinds.trailers) trailers = linesOf(next.bytes);
      if (next.kind !== kinds.data) continue;
      data.push(next.bytes);
      if (this.socket.readyState === WebSocket.OPEN) this.grant(Math.max(256, next.bytes.length));
    }
    return { headers: headers ?? [], data: Buffer.concat(data), trailers: trailers ?? [] };
  }

  [Symbol.dispose](): void {
    this.socket.terminate();
  }
}

export function framed(text: Uint8Array | string): Buffer {
  const bytes = Buffer.from(text);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

function linesOf(bytes: Buffer): string[] {
  return bytes.toString("latin1").split("\r\n").slice(0, -1);
}
