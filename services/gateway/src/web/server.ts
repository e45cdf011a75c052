// The web port: gRPC-Web, ingress and discovery on HTTP/1.1 and HTTP/2, gRPC on HTTP/2, and calls over WebSocket.
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import {
  createServer as createHttp2Server,
  Http2ServerRequest,
  Http2ServerResponse,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { Socket } from "node:net";
import type { HostPort, Log } from "@pitwall/runtime";
import type { CertificateFiles } from "./certificate.ts";
import { corsHeaders, isPreflight } from "./cors.ts";
import { grpcClient, isGrpc } from "./grpc.ts";
import { grpcWebClientOnHttp1, grpcWebClientOnHttp2, grpcWebKind } from "./grpc-web.ts";
import { callHeaders, headerBytes, maxHeaderBytes } from "./headers.ts";
import { closeWhenIdle, idleLimits } from "./idle.ts";
import { ingressTarget, type Ingress } from "./ingress.ts";
import { firstBytesLimitMs, openListener } from "./listener.ts";
import { plainReply, type PlainReply } from "./plain.ts";
import { relay } from "./relay.ts";
import { AllUnderway } from "./underway.ts";
import { openSocketDoor, refuse } from "./socket-door.ts";
import type { OpenUpstream } from "./upstreams.ts";

const maxConcurrentStreams = 250;

export interface WebParts {
  readonly open: OpenUpstream;
  /** Into VMs; without it nothing is below /vm/. */
  readonly ingress?: Ingress;
  /** What /.well-known/pitwall says; without it there is no such page. */
  readonly discovery?: Readonly<Record<string, unknown>>;
  /** Origins of web consoles; `*` for any. */
  readonly corsOrigins: readonly string[];
  /** Without it the port is cleartext. */
  readonly tls?: CertificateFiles | undefined;
  readonly log: Log;
}

/** Disposing it takes no more connections and calls, lets those end that are under way ({@link AllUnderway}), and closes the rest. */
export async function openWebServer(at: HostPort, parts: WebParts): Promise<AsyncDisposable & { readonly port: number }> {
  const { open, ingress, log } = parts;
  const underway = new AllUnderway();
  const sessions = new Set<ServerHttp2Session>();
  const http2 = createHttp2Server({
    settings: { maxConcurrentStreams, initialWindowSize: 1 << 20 },
    maxSessionInvalidFrames: 100,
    // A call that is reset is reset at its upstream too, which takes only so many on a connection that all users share.
    streamResetBurst: 200,
    streamResetRate: 33,
  });
  http2.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, _flags: number, raw: string[]) =>
    serveStream(stream, headers, raw),
  );
  http2.on("session", (session) => {
    sessions.add(session);
    closeWhenIdle(session, idleLimits);
    session.once("close", () => sessions.delete(session));
  });
  http2.on("sessionError", (error) => log.debug("an HTTP/2 connection broke", { error }));

  function serveStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, raw: string[]): void {
    if (headerBytes(raw) > maxHeaderBytes) {
      stream.on("error", () => undefined);
      return stream.respond({ ":status": 431 }, { endStream: true });
    }
    const path = headers[":path"] ?? "";
    const type = headers["content-type"];
    const isPost = headers[":method"] === "POST";
    if (isPost && isGrpc(type)) return void relay(grpcClient(stream, path, callHeaders(headers, raw)), open, underway, log);
    const always = corsHeaders(headers.origin, parts.corsOrigins);
    const kind = isPost ? grpcWebKind(type) : undefined;
    if (kind) {
      const web = { path: pathOf(path), headers: callHeaders(headers, raw), kind, always };
      return void relay(grpcWebClientOnHttp2(stream, web), open, underway, log);
    }
    stream.on("error", () => undefined);
    const target = ingress && !isPreflight(headers[":method"], always) ? targetOf(path) : undefined;
    if (target && ingress) {
      const [request, response] = [new Http2ServerRequest(stream, headers, {}, raw), new Http2ServerResponse(stream)];
      isUnderway(response);
      return void ingress.serve(request, response, target);
    }
    const { status, body, headers: own } = plainReply(headers[":method"], pathOf(path), always, parts.discovery);
    stream.respond({ ":status": status, ...always, ...own });
    stream.end(headers[":method"] === "HEAD" ? undefined : body);
  }

  // What goes into a VM may take as long as it likes: no limit on whole requests.
  const limits = { headersTimeout: firstBytesLimitMs, requestTimeout: 0, connectionsCheckingInterval: 1_000 };
  const http1 = createHttpServer({ maxHeaderSize: maxHeaderBytes, ...limits }, (request, response) => {
    void serve(request, response).catch((error: unknown) => {
      log.error("a request failed", { error });
      response.destroy();
    });
  });
  const socketDoor = openSocketDoor({
    corsOrigins: parts.corsOrigins,
    isSecure: parts.tls !== undefined,
    serve: (client) => void relay(client, open, underway, log),
  });
  http1.emit("listening"); // it is given its connections, but only what listens looks after their time limits and knows which are idle
  http1.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
    if (hasSeveralHosts(request)) return refuse(socket, 400, oneHost);
    const target = ingress && targetOf(request.url ?? "");
    if (target) void ingress.upgrade(request, socket, head, target);
    else socketDoor.upgrade(request, socket, head);
  });

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method, headers, url = "" } = request;
    if (hasSeveralHosts(request)) return send(response, { status: 400, headers: {}, body: `${oneHost}\n` });
    if (underway.isDraining) response.setHeader("connection", "close");
    const always = corsHeaders(headers.origin, parts.corsOrigins);
    const kind = method === "POST" ? grpcWebKind(headers["content-type"]) : undefined;
    if (kind) {
      const web = { path: pathOf(url), headers: callHeaders(headers, request.rawHeaders), kind, always };
      return relay(grpcWebClientOnHttp1(request, response, web), open, underway, log);
    }
    for (const [name, value] of Object.entries(always)) response.setHeader(name, String(value));
    const target = ingress && !isPreflight(method, always) ? targetOf(url) : undefined;
    if (target && ingress) {
      isUnderway(response);
      return ingress.serve(request, response, target);
    }
    send(response, plainReply(method, pathOf(url), always, parts.discovery));
  }

  /** A way into a VM has no words for its end. */
  function isUnderway(response: ServerResponse | Http2ServerResponse): void {
    let begunAtMs: number | undefined;
    const looked = (): number | undefined => (response.headersSent ? (begunAtMs ??= performance.now()) : undefined);
    response.once("close", underway.add({ begunAtMs: looked, end: () => response.destroy() }));
  }

  const listener = await openListener(at, {
    ...(parts.tls && { tls: parts.tls }),
    onHttp1: (socket) => void http1.emit("connection", socket),
    onHttp2: (socket) => void http2.emit("connection", socket),
    log,
  });
  return {
    port: listener.port,
    async [Symbol.asyncDispose]() {
      listener.stop();
      for (const session of sessions) session.close(); // GOAWAY: calls that come now are for another gateway
      http1.closeIdleConnections();
      socketDoor.stop();
      await underway.drain();
      http1.close(() => undefined);
      await listener[Symbol.asyncDispose]();
    },
  };
}

const oneHost = "one host, please";
/** Node takes the first of several, another server the last: whom the request is for must not depend on who reads it. */
function hasSeveralHosts({ headersDistinct }: IncomingMessage): boolean {
  return (headersDistinct["host"] ?? []).length > 1;
}

function pathOf(url: string): string {
  return url.split("?", 1)[0] ?? "";
}

function targetOf(url: string): ReturnType<typeof ingressTarget> {
  try {
    return ingressTarget(url);
  } catch {
    return undefined; // a port that no TCP has: nothing is there
  }
}

function send(response: ServerResponse, { status, headers, body }: PlainReply): void {
  response.writeHead(status, headers);
  response.end(body);
}
