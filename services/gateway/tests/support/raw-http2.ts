// A hostile client of HTTP/2: frames as bytes, with no library that would know better.
import { once } from "node:events";
import { connect, type Socket } from "node:net";

export const frameKind = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goaway: 7, windowUpdate: 8, continuation: 9 } as const;
export const endStream = 1;
export const endHeaders = 4;

export function frameOf(kind: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = kind;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Literals without indexing, HPACK section 6.2.2. */
export function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  return Buffer.concat(Object.entries(headers).flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

/** Of a gRPC call. */
export function callBlock(more: Readonly<Record<string, string>> = {}): Buffer {
  const call = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/a.B/C",
    ":authority": "a",
    "content-type": "application/grpc",
    te: "trailers",
  };
  return headerBlock({ ...call, ...more });
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([prefixed(bytes.length), bytes]);
}

/** An integer with a prefix of 7 bits, HPACK section 5.1. */
function prefixed(value: number): Buffer {
  if (value < 127) return Buffer.from([value]);
  const bytes = [127];
  let rest = value - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}

export class RawHttp2 implements Disposable {
  readonly socket: Socket;
  /** The code of GOAWAY, once it was said. */
  goaway: number | undefined;
  /** How many frames of each kind came. */
  readonly seen = new Map<number, number>();
  readonly closed: Promise<void>;
  #rest = Buffer.alloc(0);

  /** `localAddress` is the client's own. */
  constructor(port: number, localAddress?: string) {
    this.socket = connect({ port, host: "127.0.0.1", ...(localAddress !== undefined && { localAddress }) });
    this.socket.on("error", () => undefined);
    this.closed = new Promise((resolve) => this.socket.once("close", () => resolve()));
    this.socket.on("data", (chunk) => this.#read(chunk));
    this.socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    this.say(frameKind.settings, 0, 0);
  }

  say(kind: number, flags: number, stream: number, payload?: Uint8Array): this {
    if (!this.socket.destroyed) this.socket.write(frameOf(kind, flags, stream, payload));
    return this;
  }

  /** Waits while what was written has not gone out. */
  async flushed(): Promise<void> {
    if (!this.socket.destroyed && this.socket.writableNeedDrain)
      await Promise.race([once(this.socket, "drain").catch(() => undefined), this.closed]);
  }

  #read(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < 9 + length) return;
      const kind = this.#rest[3] ?? 0;
      this.seen.set(kind, (this.seen.get(kind) ?? 0) + 1);
      if (kind === frameKind.goaway) this.goaway = this.#rest.readUInt32BE(13);
      if (kind === frameKind.settings && this.#rest[4] === 0) this.say(frameKind.settings, 1, 0);
      this.#rest = this.#rest.subarray(9 + length);
    }
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}
