// A client of HTTP/2 on TLS that says frames as bytes and keeps to the windows that it is granted.
import { connect, type TLSSocket } from "node:tls";

const kinds = { data: 0, headers: 1, settings: 4, goaway: 7, windowUpdate: 8 } as const;
const firstWindow = 65_535;
const batch = 4_096;

export class FrameClient implements Disposable {
  readonly socket: TLSSocket;
  /** What was granted and not used, of the connection and of the one stream. */
  readonly #windows = { connection: firstWindow, stream: firstWindow };
  #rest: Buffer = Buffer.alloc(0);
  #isOver = false;
  #wake: (() => void) | undefined;
  /** Payloads of HEADERS frames that came. */
  readonly answers: Buffer[] = [];

  constructor(api: string) {
    const [host = "", port] = api.split(":");
    this.socket = connect({ host, port: Number(port), ALPNProtocols: ["h2"], rejectUnauthorized: false });
    this.socket.on("error", () => undefined).on("data", (chunk: Buffer) => this.#read(chunk));
    this.socket.once("close", () => {
      this.#isOver = true;
      this.#wake?.();
    });
    this.socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    this.#say(kinds.settings, 0, 0);
  }

  /** Begins the one call, and does not end it. */
  begin(path: string, headers: Readonly<Record<string, string>> = {}): this {
    const all = {
      ":method": "POST",
      ":scheme": "https",
      ":path": path,
      ":authority": "a",
      "content-type": "application/grpc",
      te: "trailers",
    };
    const block = Object.entries({ ...all, ...headers }).flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]);
    this.#say(kinds.headers, 4, 1, Buffer.concat(block));
    return this;
  }

  /** The head of a message of this length, and its bytes in a frame each, until it has an answer or nothing was granted for a second. How many were sent. */
  async drip(count: number): Promise<number> {
    const head = Buffer.alloc(5);
    head.writeUInt32BE(count, 1);
    this.#say(kinds.data, 0, 1, head);
    this.#use(head.length);
    const one = frame(kinds.data, 0, 1, Buffer.from([0]));
    const many = Buffer.concat(Array.from({ length: batch }, () => one));
    let sent = 0;
    while (sent < count && !this.#isOver) {
      const may = Math.min(batch, count - sent, this.#windows.connection, this.#windows.stream);
      if (may <= 0) {
        const isGranted = await Promise.race([
          new Promise<boolean>((resolve) => (this.#wake = () => resolve(true))),
          new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 1_000)),
        ]);
        if (!isGranted) break;
        continue;
      }
      this.#use(may);
      sent += may;
      if (!this.socket.write(many.subarray(0, may * one.length))) await this.#drained();
    }
    return sent;
  }

  async #drained(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.socket.once("drain", resolve);
      this.#wake = resolve;
    });
  }

  #use(bytes: number): void {
    this.#windows.connection -= bytes;
    this.#windows.stream -= bytes;
  }

  #say(kind: number, flags: number, stream: number, payload?: Uint8Array): void {
    if (!this.socket.destroyed) this.socket.write(frame(kind, flags, stream, payload));
  }

  #read(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < 9 + length) return;
      const [kind, flags, stream] = [this.#rest[3] ?? 0, this.#rest[4] ?? 0, this.#rest.readUInt32BE(5)];
      const payload = Buffer.from(this.#rest.subarray(9, 9 + length));
      this.#rest = this.#rest.subarray(9 + length);
      if (kind === kinds.settings && flags === 0) this.#say(kinds.settings, 1, 0);
      if (kind === kinds.headers) this.answers.push(payload);
      if (kind === kinds.windowUpdate) this.#windows[stream === 0 ? "connection" : "stream"] += payload.readUInt32BE(0);
      if (kind === kinds.headers || kind === kinds.goaway) this.#isOver = true;
      this.#wake?.();
    }
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

function frame(kind: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = kind;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A literal of HPACK, section 5.2. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  if (bytes.length >= 127) throw new Error("it is too long for one byte of length");
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}
