// Connections of the web port: with TLS the client says by ALPN what it speaks, without it by its first bytes.
import { createServer as createTcpServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { listen, type HostPort, type Log } from "@pitwall/runtime";
import { openCertificate, type CertificateFiles } from "./certificate.ts";
import type { Refusal } from "./limits.ts";

/** How HTTP/2 with prior knowledge begins, RFC 9113 section 3.4. */
const http2Preface = "PRI";
/** What was sent last is on its way when its stream has ended. */
const lastBytesMs = 500;

export interface ListenerParts {
  /** Without it the port is cleartext. */
  readonly tls?: CertificateFiles;
  readonly onHttp1: (socket: Socket) => void;
  readonly onHttp2: (socket: Socket) => void;
  /** Whether it is let in; else it has been closed. */
  readonly onConnection: (socket: Socket) => boolean;
  /** From a connection's begin to its TLS handshake, and to its first bytes. */
  readonly limitMs: number;
  readonly onRefused: (why: Refusal) => void;
  readonly log: Log;
}

export interface Listener extends AsyncDisposable {
  readonly port: number;
  /** Takes no more connections. */
  stop(): void;
}

/** Disposing it closes all connections: at once those that have said nothing yet, others half a second later, if they do not end by themselves. */
export async function openListener(at: HostPort, parts: ListenerParts): Promise<Listener> {
  const { tls, onHttp1, onHttp2, onConnection, limitMs, onRefused, log } = parts;
  const sockets = new Set<Socket>();
  const silent = new Set<Socket>();
  const speak = (socket: Socket): void => {
    socket.on("error", () => undefined);
    silent.add(socket);
    socket
      .once("close", () => silent.delete(socket))
      .setTimeout(limitMs, () => {
        onRefused("headers_time");
        socket.destroy();
      });
    let first = Buffer.alloc(0);
    const decide = (): void => {
      const read: unknown = socket.read();
      if (Buffer.isBuffer(read)) first = Buffer.concat([first, read]);
      const begins = first.subarray(0, http2Preface.length).toString("latin1");
      if (begins.length < http2Preface.length && http2Preface.startsWith(begins)) return void socket.once("readable", decide);
      socket.setTimeout(0);
      socket.removeAllListeners("timeout");
      silent.delete(socket);
      socket.unshift(first);
      (begins === http2Preface ? onHttp2 : onHttp1)(socket);
    };
    socket.once("readable", decide);
  };
  const speakSecured = (socket: TLSSocket): void => {
    socket.on("error", () => undefined);
    (socket.alpnProtocol === "h2" ? onHttp2 : onHttp1)(socket);
  };
  await using stack = new AsyncDisposableStack();
  let server: Server;
  if (tls) {
    const certificate = stack.use(openCertificate(tls, (renewed) => secure.setSecureContext(renewed), log));
    const options = { ...certificate.context, ALPNProtocols: ["h2", "http/1.1"], handshakeTimeout: limitMs, noDelay: true };
    const secure = createTlsServer(options, speakSecured);
    secure.on("tlsClientError", (error) => log.debug("a TLS handshake failed", { error }));
    server = secure;
  } else server = createTcpServer({ noDelay: true }, speak);
  server.prependListener("connection", (socket: Socket) => {
    socket.on("error", () => undefined);
    if (!onConnection(socket)) return;
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  const port = await listen(server, at, "gateway");
  const closed = new Promise<void>((resolve) => server.once("close", resolve));
  let isStopped = false;
  const stop = (): void => {
    if (!isStopped) server.close();
    isStopped = true;
  };
  const owned = stack.move();
  return {
    port,
    stop,
    async [Symbol.asyncDispose]() {
      stop();
      for (const socket of silent) socket.destroy();
      const late = setTimeout(() => {
        for (const socket of sockets) socket.destroy();
      }, lastBytesMs);
      await closed;
      clearTimeout(late);
      await owned.disposeAsync();
    },
  };
}
