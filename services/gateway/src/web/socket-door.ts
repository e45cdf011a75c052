// Calls over WebSocket: who may open one, and what it is before its headers have come.
import { STATUS_CODES, type IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer, type WebSocket } from "ws";
import { maySpeak } from "./cors.ts";
import { endSoon } from "./end-soon.ts";
import { controlBudget, controlBurst } from "./floods.ts";
import type { Refusal, WebLimits } from "./limits.ts";
import type { CallClient } from "./relay.ts";
import { socketClient } from "./socket-call.ts";
import { maxDataBytes, parseHeaders, SocketFault, socketProtocol } from "./socket-messages.ts";

/** For the closing handshake. */
const goodbyeMs = 2_000;

export interface SocketDoorParts {
  readonly corsOrigins: readonly string[];
  readonly limits: Pick<WebLimits, "headerBytes" | "headersMs">;
  readonly onRefused: (why: Refusal) => void;
  /** One from there is ended for its pings. */
  readonly onPinged: (source: string | undefined) => void;
  readonly isSecure: boolean;
  readonly serve: (client: CallClient) => void;
}

export interface SocketDoor {
  /** Takes over the socket of a request for an upgrade. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Takes no more, and ends those that are no call yet. */
  stop(): void;
}

export function openSocketDoor({ corsOrigins, limits, onRefused, onPinged, isSecure, serve }: SocketDoorParts): SocketDoor {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: 1 + maxDataBytes,
    maxFragments: 64,
    maxBufferedChunks: 1024,
    handleProtocols: () => socketProtocol,
    ...{ closeTimeout: goodbyeMs, maxPendingAutoPongs: 2 * controlBurst }, // its types do not know these; our own limit on pings comes first
  });
  const unnamed = new Set<WebSocket>();
  let isStopped = false;

  function refusal({ url = "", headers }: IncomingMessage): { status: number; words: string } | undefined {
    if (isStopped) return { status: 503, words: "the gateway is stopping; call again" };
    if (!/^\/[\w.]+\/\w+$/.test(url))
      return { status: 404, words: "a call's address is /SERVICE/METHOD and nothing else: its token is in its headers" };
    const offered = (headers["sec-websocket-protocol"] ?? "").split(/\s*,\s*/);
    if (!offered.includes(socketProtocol)) return { status: 400, words: `this address takes the subprotocol ${socketProtocol}` };
    const { origin, host } = headers;
    if (maySpeak(origin, `${isSecure ? "https" : "http"}://${host}`, corsOrigins)) return undefined;
    onRefused("origin");
    return { status: 403, words: "pages of this origin may not call; PITWALL_CORS_ORIGINS lists those that may" };
  }

  function receive(socket: WebSocket, { url: path = "", socket: { remoteAddress: source } }: IncomingMessage): void {
    unnamed.add(socket);
    const late = setTimeout(() => {
      onRefused("headers_time");
      socket.close(1008, "the call's headers did not come in time");
    }, limits.headersMs);
    socket.on("error", () => undefined); // it has been told, with a close code
    // As on HTTP/2. The library answers each.
    const isWithin = controlBudget();
    socket.on("ping", () => {
      if (isWithin() || socket.readyState !== socket.OPEN) return;
      onPinged(source);
      socket.terminate();
    });
    socket.once("close", () => {
      clearTimeout(late);
      unnamed.delete(socket);
    });
    socket.once("message", (message: Buffer, isBinary) => {
      clearTimeout(late);
      unnamed.delete(socket);
      try {
        serve(socketClient(socket, { path, source, headers: parseHeaders(message, isBinary, limits.headerBytes) }));
      } catch (error) {
        if (!(error instanceof SocketFault)) throw error;
        socket.close(error.code, error.message);
      }
    });
  }

  return {
    upgrade(request, socket, head) {
      const refused = refusal(request);
      if (refused) return refuse(socket, refused.status, refused.words);
      server.handleUpgrade(request, socket, head, (opened) => receive(opened, request));
    },
    stop() {
      isStopped = true;
      for (const socket of unnamed) socket.close(1001, "the gateway is stopping");
    },
  };
}

/** Answers a request for an upgrade that is none. */
export function refuse(socket: Duplex, status: number, words: string): void {
  const head = [`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`, "connection: close", "content-type: text/plain"];
  endSoon(socket, `${head.join("\r\n")}\r\n\r\n${words}\n`);
}
