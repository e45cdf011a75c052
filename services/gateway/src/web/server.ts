// The web port: HTTP/1.1 (gRPC-Web, ingress, discovery) and cleartext HTTP/2 (gRPC) told apart by their first bytes.
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import { createServer as createTcpServer, type Socket } from "node:net";
import { listen, type HostPort, type Log } from "@pitwall/runtime";
import { serveGrpc } from "./grpc.ts";
import { grpcWebKind, serveGrpcWeb } from "./grpc-web.ts";
import { ingressTarget, type Ingress } from "./ingress.ts";
import type { OpenUpstream } from "./upstreams.ts";

/** How HTTP/2 with prior knowledge begins, RFC 9113 section 3.4. */
const http2Preface = "PRI";
const firstBytesLimitMs = 10_000;
const maxConcurrentStreams = 250;
const exposed = "grpc-status,grpc-message,grpc-status-details-bin";
const allowed = "authorization,content-type,grpc-timeout,pitwall-vm,x-grpc-web,x-user-agent";

export interface WebParts {
  readonly open: OpenUpstream;
  readonly ingress: Ingress;
  /** What /.well-known/pitwall says. */
  readonly discovery: Readonly<Record<string, unknown>>;
  /** Origins of web consoles; `*` for any. */
  readonly corsOrigins: readonly string[];
  readonly log: Log;
}

/** Disposing it closes all connections. */
export async function openWebServer(at: HostPort, parts: WebParts): Promise<AsyncDisposable & { readonly port: number }> {
  const { open, ingress, log } = parts;
  const sockets = new Set<Socket>();
  const http2 = createHttp2Server({ settings: { maxConcurrentStreams, initialWindowSize: 1 << 20 }, maxSessionInvalidFrames: 100 });
  http2.on("stream", (stream, headers) => {
    const path = headers[":path"] ?? "";
    if (headers[":method"] === "POST" && /^application\/grpc(\+proto)?$/.test(headers["content-type"] ?? ""))
      void serveGrpc(stream, path, headers, open, log);
    else stream.respond({ ":status": 415, "content-type": "text/plain" }, { endStream: true });
  });
  http2.on("sessionError", (error) => log.debug("an HTTP/2 connection broke", { error }));

  const http1 = createHttpServer((request, response) => {
    void serve(request, response).catch((error: unknown) => {
      log.error("a request failed", { error });
      response.destroy();
    });
  });
  http1.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
    const target = targetOf(request);
    if (target) void ingress.upgrade(request, socket, head, target);
    else socket.end("HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n");
  });

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const origin = request.headers.origin;
    if (origin !== undefined && (parts.corsOrigins.includes("*") || parts.corsOrigins.includes(origin))) {
      response.setHeader("access-control-allow-origin", origin);
      response.setHeader("access-control-expose-headers", exposed);
      response.setHeader("vary", "origin");
      if (request.method === "OPTIONS") {
        response.writeHead(204, {
          "access-control-allow-methods": "POST,GET",
          "access-control-allow-headers": allowed,
          "access-control-max-age": "7200",
        });
        return void response.end();
      }
    }
    const kind = request.method === "POST" ? grpcWebKind(request.headers["content-type"]) : undefined;
    if (kind) return serveGrpcWeb(request, response, kind, open, log);
    const target = targetOf(request);
    if (target) return ingress.serve(request, response, target);
    const path = (request.url ?? "").split("?", 1)[0];
    if (request.method !== "GET" && request.method !== "HEAD")
      return reply(response, 405, "text/plain", "this address takes gRPC-Web, or GET\n");
    if (path === "/.well-known/pitwall") return reply(response, 200, "application/json", `${JSON.stringify(parts.discovery)}\n`);
    if (path === "/healthz") return reply(response, 200, "text/plain", "ok\n");
    reply(response, 404, "text/plain", "nothing is here\n");
  }

  const server = createTcpServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    const onError = (): void => undefined;
    socket.on("error", onError).once("close", () => sockets.delete(socket));
    socket.setTimeout(firstBytesLimitMs, () => socket.destroy());
    const decide = (): void => {
      const first: unknown = socket.read();
      if (!Buffer.isBuffer(first)) return void socket.once("readable", decide);
      socket.setTimeout(0);
      socket.removeAllListeners("timeout");
      socket.unshift(first);
      const isHttp2 = first.subarray(0, http2Preface.length).toString("latin1") === http2Preface;
      (isHttp2 ? http2 : http1).emit("connection", socket);
    };
    socket.once("readable", decide);
  });
  const port = await listen(server, at, "gateway");
  return {
    port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function targetOf({ url = "" }: IncomingMessage): ReturnType<typeof ingressTarget> {
  try {
    return ingressTarget(url);
  } catch {
    return undefined; // a port that no TCP has: nothing is there
  }
}

function reply(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { "content-type": type, "x-content-type-options": "nosniff" });
  response.end(body);
}
