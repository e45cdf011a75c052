// One call over WebSocket: what its client says becomes the call's body, and what its upstream says goes back, as far as each side has
// granted credit. A browser's WebSocket reads on whatever its page does, so TCP alone would hold nobody back.
//
// open -> over (trailers went out, or a fault, or its client has gone). After that nothing of the client's counts.
import { Readable } from "node:stream";
import type { WebSocket } from "ws";
import type { CallHeaders } from "./headers.ts";
import type { CallClient } from "./relay.ts";
import {
  costOf,
  creditMessage,
  dataMessage,
  firstCreditBytes,
  headersMessage,
  maxCreditBytes,
  maxDataBytes,
  minCostBytes,
  parseMessage,
  SocketFault,
  trailersMessage,
} from "./socket-messages.ts";

const pingEveryMs = 20_000;
/** What a call ends with whose status is said. */
const closeCode = 1000;

export interface SocketRequest {
  readonly path: string;
  readonly source: string | undefined;
  /** What the client began with. */
  readonly headers: CallHeaders;
}

export function socketClient(socket: WebSocket, { path, source, headers }: SocketRequest): CallClient {
  const body = new Body((count) => socket.send(creditMessage(count)));
  const gone: (() => void)[] = [];
  const resume: (() => void)[] = [];
  /** Not sent yet, for want of credit. */
  let waiting: Buffer[] = [];
  let credit = firstCreditBytes;
  let last: Buffer | undefined;
  let isOver = false;
  const canAnswer = (): boolean => !isOver && socket.readyState === socket.OPEN;

  const leave = (): void => {
    isOver = true;
    waiting = [];
    body.destroy();
    for (const each of gone.splice(0)) each();
  };
  const fail = (fault: SocketFault): void => {
    socket.close(fault.code, fault.message);
    leave();
  };
  const flush = (): void => {
    while (credit >= minCostBytes) {
      const next = waiting.shift();
      if (!next) break;
      const now = next.subarray(0, Math.min(credit, maxDataBytes));
      socket.send(dataMessage(now));
      credit -= costOf(now.length);
      if (now.length < next.length) waiting.unshift(next.subarray(now.length));
    }
    if (waiting.length > 0 || !last) return;
    isOver = true;
    socket.send(last);
    socket.close(closeCode);
  };

  socket.on("message", (message: Buffer, isBinary) => {
    if (isOver) return;
    try {
      const said = parseMessage(message, isBinary);
      if (said.kind === "data") body.say(said.bytes);
      else if (said.kind === "halfClose") body.sayEnd();
      else {
        credit += said.count;
        if (credit > maxCreditBytes) throw new SocketFault(1008, `at most ${maxCreditBytes} bytes may be granted at once`);
        flush();
        if (waiting.length === 0) for (const each of resume) each();
      }
    } catch (error) {
      if (!(error instanceof SocketFault)) throw error;
      fail(error);
    }
  });
  socket.once("close", leave);
  keepAlive(socket);

  return {
    protocol: "websocket",
    source,
    path,
    headers,
    body,
    wasCut: () => false, // a body ends with a half-close and never else
    begin(contentType, metadata) {
      if (canAnswer()) socket.send(headersMessage({ "content-type": contentType, ...metadata }));
    },
    write(chunk) {
      if (!canAnswer()) return true;
      if (chunk.length > 0) waiting.push(chunk);
      flush();
      return waiting.length === 0;
    },
    cut: () => socket.terminate(),
    finish(trailers) {
      if (!canAnswer()) return;
      last = trailersMessage(trailers);
      flush();
    },
    onDrain: (again) => void resume.push(again),
    onGone: (left) => void gone.push(left),
  };
}

/** What its client says; grants as much as was read. */
class Body extends Readable {
  readonly #grant: (count: number) => void;
  #credit = firstCreditBytes;
  #read = 0;
  readonly #said: Buffer[] = [];
  #hasEnded = false;
  #isWanted = false;

  constructor(grant: (count: number) => void) {
    super({ highWaterMark: 1 }); // what waits, waits here, where it counts
    this.#grant = grant;
  }

  /** Throws {@link SocketFault}. */
  say(bytes: Buffer): void {
    if (this.#hasEnded) throw new SocketFault(1002, "nothing comes after a half-close");
    this.#credit -= costOf(bytes.length);
    if (this.#credit < 0) throw new SocketFault(1008, "more was sent than was granted");
    this.#said.push(bytes);
    if (this.#isWanted) this._read();
  }

  /** Throws {@link SocketFault}. */
  sayEnd(): void {
    if (this.#hasEnded) throw new SocketFault(1002, "a call has one half-close");
    this.#hasEnded = true;
    if (this.#isWanted) this._read();
  }

  override _read(): void {
    const all = this.#said.splice(0);
    this.#isWanted = all.length === 0;
    if (all.length > 0) {
      this.#giveBack(all.reduce((sum, { length }) => sum + costOf(length), 0));
      this.push(Buffer.concat(all));
    } else if (this.#hasEnded) this.push(null);
  }

  #giveBack(count: number): void {
    this.#read += count;
    if (this.#hasEnded || this.#read < firstCreditBytes / 2) return;
    this.#credit += this.#read;
    this.#grant(this.#read);
    this.#read = 0;
  }
}

/** Ends a connection whose other end is silent: whatever answers a ping is there. */
function keepAlive(socket: WebSocket): void {
  let isHeard = true;
  const hear = (): void => void (isHeard = true);
  const timer = setInterval(() => {
    if (!isHeard) return socket.terminate();
    isHeard = false;
    socket.ping();
  }, pingEveryMs).unref();
  socket
    .on("message", hear)
    .on("pong", hear)
    .once("close", () => clearInterval(timer));
}
