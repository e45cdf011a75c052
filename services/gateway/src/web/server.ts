// The web port: gRPC-Web, ingress and discovery on HTTP/1.1 and HTTP/2, gRPC on HTTP/2, and calls over WebSocket.
import { createServer as createHttpServer, ServerResponse, type IncomingMessage } from "node:http";
import {
  createServer as createHttp2Server,
  Http2ServerRequest,
  Http2ServerResponse,
  type Http2Session,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import type { Socket } from "node:net";
import { messageChain, type HostPort, type Log } from "@pitwall/runtime";
import type { GatewayMetrics } from "../metrics.ts";
import { Admission } from "./admission.ts";
import type { CertificateFiles } from "./certificate.ts";
import { corsHeaders, isPreflight } from "./cors.ts";
import type { DeadlineOf } from "./deadlines.ts";
import { endSoon } from "./end-soon.ts";
import { addressOf, grpcClient, isGrpc, readOut } from "./grpc.ts";
import { grpcWebClientOnHttp1, grpcWebClientOnHttp2, grpcWebKind } from "./grpc-web.ts";
import { callHeaders, headerBytes } from "./headers.ts";
import { Floods } from "./floods.ts";
import { closeWhenIdle, firstCallMs } from "./idle.ts";
import { authorityOf } from "./ingress-headers.ts";
import { ingressTarget, isKnownUpgrade, type Ingress, type Target } from "./ingress.ts";
import type { Refusal, WebLimits } from "./limits.ts";
import { openListener } from "./listener.ts";
import type { PlainReply } from "./plain-reply.ts";
import { plainReply, type PlainParts } from "./plain.ts";
import { relay, type RelayParts } from "./relay.ts";
import { AllUnderway } from "./underway.ts";
import { openSocketDoor, refuse } from "./socket-door.ts";
import type { OpenUpstream } from "./upstreams.ts";

/** Of one call's requests that wait because its upstream does not take them: as much as on a WebSocket. One user may have 500 calls. */
const uploadBytes = 256 * 1024;

export interface WebParts extends PlainParts {
  readonly open: OpenUpstream;
  /** Into VMs; without it nothing is below /vm/. */
  readonly ingress?: Ingress;
  /** Origins of web consoles; `*` for any. */
  readonly corsOrigins: readonly string[];
  /** Without it clients' own count. */
  readonly deadlineOf?: DeadlineOf;
  /** Without it the port is cleartext. */
  readonly tls?: CertificateFiles | undefined;
  readonly limits: WebLimits;
  readonly metrics: GatewayMetrics;
  readonly log: Log;
}

/** Disposing it takes no more connections and calls, lets those end that are under way ({@link AllUnderway}), and closes the rest. */
export async function openWebServer(at: HostPort, parts: WebParts): Promise<AsyncDisposable & { readonly port: number }> {
  const { open, ingress, limits, metrics, log } = parts;
  const underway = new AllUnderway();
  const admission = new Admission(limits, metrics.refuse);
  const relayed = { open, underway, admission, deadlineOf: parts.deadlineOf, limits, metrics, log };
  const exposesAll = parts.takesAnyMetadata ?? false;
  const floods = new Floods(limits, metrics.refuse);
  /** With what their calls are served. */
  const sessions = new Map<Http2Session, RelayParts>();
  const http2 = createHttp2Server({
    settings: { maxConcurrentStreams: limits.callsPerConnection, maxHeaderListSize: limits.headerBytes, initialWindowSize: uploadBytes },
    maxSessionInvalidFrames: 100,
    maxSettings: 32,
    // A call that is reset is reset at its upstream too, which takes only so many on a connection that all users share.
    streamResetBurst: 200,
    streamResetRate: 33,
  });
  http2.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, _flags: number, raw: string[]) =>
    serveStream(stream, headers, raw),
  );
  http2.on("session", (session) => {
    sessions.set(session, { ...relayed, onCrumbs: floods.watch(session) });
    closeWhenIdle(session, { firstMs: Math.min(firstCallMs, limits.idleMs), nextMs: limits.idleMs });
    const { remoteAddress, remotePort } = session.socket; // it is gone once the session was destroyed, and streams may be told of after that
    session.once("stream", () => admission.spoke({ remoteAddress, remotePort }));
    session.once("close", () => sessions.delete(session));
  });
  http2.on("sessionError", (error) => {
    metrics.refuse("http2");
    log.debug("an HTTP/2 connection broke", { error });
  });

  const partsOf = ({ session }: ServerHttp2Stream): RelayParts => (session && sessions.get(session)) ?? relayed;

  function serveStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, raw: string[]): void {
    if (stream.closed || stream.destroyed) {
      // Broken off in the same breath: nobody waits for it. But if it broke a rule, that is told, and unheard would end the process.
      return void stream.on("error", () => undefined);
    }
    if (headerBytes(raw) > limits.headerBytes) {
      metrics.refuse("header_bytes");
      stream.on("error", () => undefined);
      return stream.respond({ ":status": 431 }, { endStream: true });
    }
    const path = headers[":path"] ?? "";
    const own = ingress?.ofHost(authorityOf(headers), path);
    if (own !== undefined) return serveVm(own, stream, headers, raw);
    const type = headers["content-type"];
    const isPost = headers[":method"] === "POST";
    if (isPost && isGrpc(type)) return void relay(grpcClient(stream, path, callHeaders(headers, raw)), partsOf(stream));
    const always = corsHeaders(headers.origin, parts.corsOrigins);
    const kind = isPost ? grpcWebKind(type) : undefined;
    if (kind) {
      const web = { path: pathOf(path), headers: callHeaders(headers, raw), kind, always, exposesAll };
      return void relay(grpcWebClientOnHttp2(stream, web), partsOf(stream));
    }
    stream.on("error", () => undefined);
    const target = ingress && !isPreflight(headers[":method"], always) ? targetOf(path) : undefined;
    if (target) return serveVm(target, stream, headers, raw, always);
    const { status, body, headers: said } = plainReply({ method: headers[":method"], path: pathOf(path), headers }, always, parts);
    stream.respond({ ":status": status, ...always, ...said });
    stream.end(headers[":method"] === "HEAD" ? undefined : body);
  }

  /** `target` null: nothing is there. `always` are headers of whatever answer. */
  function serveVm(
    target: Target | null,
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    raw: string[],
    always: OutgoingHttpHeaders = {},
  ): void {
    stream.on("error", () => undefined);
    const [request, response] = [new Http2ServerRequest(stream, headers, {}, raw), new Http2ServerResponse(stream)];
    for (const [name, value] of Object.entries(always)) response.setHeader(name, String(value));
    if (!target) return nothingThere(response);
    if (ingress) enter(response, addressOf(stream), () => ingress.serve(request, response, target));
  }

  // What goes into a VM may take as long as it likes: no limit on whole requests.
  const times = { headersTimeout: limits.headersMs, requestTimeout: 0, connectionsCheckingInterval: 1_000 };
  const upgrades = { shouldUpgradeCallback: isKnownUpgrade };
  const http1 = createHttpServer({ maxHeaderSize: limits.headerBytes, ...times, ...upgrades }, (request, response) => {
    admission.spoke(request.socket);
    void serve(request, response).catch((error: unknown) => {
      log.error("a request failed", { error });
      response.destroy();
    });
  });
  const socketDoor = openSocketDoor({
    corsOrigins: parts.corsOrigins,
    isSecure: parts.tls !== undefined,
    limits,
    onRefused: metrics.refuse,
    onPinged: (source) => floods.pinged(source),
    serve: (client) => void relay(client, relayed),
  });
  http1.emit("listening"); // it is given its connections, but only what listens looks after their time limits and knows which are idle
  http1.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
    const [why, status] = whyRefused(error);
    metrics.refuse(why);
    if (socket.writable && error.code !== "ECONNRESET") refuse(socket, status, "the request cannot be read");
    else socket.destroy();
  });
  http1.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
    admission.spoke(request.socket);
    const response = responseOn(socket, request);
    if (!response) return metrics.refuse("bad_request");
    if (hasSeveralHosts(request)) return refuse(socket, 400, oneHost);
    const { url = "" } = request;
    const own = ingress?.ofHost(authorityOf(request.headers), url);
    if (own === null) return refuse(socket, 404, nothingHere);
    const target = own ?? (ingress && targetOf(url));
    if (!target || !ingress) {
      response.detachSocket(socket);
      return socketDoor.upgrade(request, socket, head);
    }
    enter(response, request.socket.remoteAddress, () => ingress.upgrade(request, response, head, target));
  });

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method, headers, url = "" } = request;
    if (hasSeveralHosts(request)) return send(response, { status: 400, headers: { connection: "close" }, body: `${oneHost}\n` });
    if (underway.isDraining) response.setHeader("connection", "close");
    const own = ingress?.ofHost(authorityOf(headers), url);
    if (own === null) return nothingThere(response);
    if (own && ingress) return enter(response, request.socket.remoteAddress, () => ingress.serve(request, response, own));
    const always = corsHeaders(headers.origin, parts.corsOrigins);
    const kind = method === "POST" ? grpcWebKind(headers["content-type"]) : undefined;
    if (kind) {
      const web = { path: pathOf(url), headers: callHeaders(headers, request.rawHeaders), kind, always, exposesAll };
      return relay(grpcWebClientOnHttp1(request, response, web), relayed);
    }
    for (const [name, value] of Object.entries(always)) response.setHeader(name, String(value));
    const target = ingress && !isPreflight(method, always) ? targetOf(url) : undefined;
    if (target && ingress) return enter(response, request.socket.remoteAddress, () => ingress.serve(request, response, target));
    send(response, plainReply({ method, path: pathOf(url), headers }, always, parts));
  }

  /**
   * Serves a request for a way into a VM, or answers one that is one too many. It counts until its answer is over and nothing is done for it any
   * more: clients that go must not be able to begin ever more. Such a way has no words for its end.
   */
  function enter(response: ServerResponse | Http2ServerResponse, address: string | undefined, serveIt: () => Promise<void>): void {
    response.once("close", () => metrics.vmRequest(response.headersSent ? response.statusCode : undefined));
    let leave: () => void;
    try {
      leave = admission.call(address);
    } catch (error) {
      response.statusCode = 429;
      readOut(response);
      return void response.end(`${messageChain(error)}\n`);
    }
    let begunAtMs: number | undefined;
    const looked = (): number | undefined => (response.headersSent ? (begunAtMs ??= performance.now()) : undefined);
    response.once("close", underway.add({ begunAtMs: looked, end: () => response.destroy() }));
    const closed = new Promise((resolve) => response.once("close", resolve));
    void Promise.all([closed, serveIt()])
      .catch((error: unknown) => {
        log.error("a request failed", { error });
        response.destroy();
      })
      .finally(leave);
  }

  const listener = await openListener(at, {
    ...(parts.tls && { tls: parts.tls }),
    onHttp1: (socket) => void http1.emit("connection", socket),
    onHttp2: (socket) => void http2.emit("connection", socket),
    onConnection(socket) {
      if (floods.isRefused(socket.remoteAddress)) {
        socket.destroy();
        return false;
      }
      const isIn = admission.connect(socket, () => metrics.leave("connections"));
      if (isIn) metrics.enter("connections");
      return isIn;
    },
    limitMs: limits.headersMs,
    onRefused: metrics.refuse,
    log,
  });
  return {
    port: listener.port,
    async [Symbol.asyncDispose]() {
      listener.stop();
      for (const session of sessions.keys()) session.close(); // GOAWAY: calls that come now are for another gateway
      http1.closeIdleConnections();
      socketDoor.stop();
      await underway.drain();
      http1.close(() => undefined);
      await listener[Symbol.asyncDispose]();
    },
  };
}

/**
 * Node makes none for a request for an upgrade, which may be answered like any other. Its socket ends with it. Undefined, and the end of the
 * socket, where an earlier request on it is not answered yet: nothing may be said before that, and after it the protocol is another.
 */
function responseOn(socket: Socket, request: IncomingMessage): ServerResponse | undefined {
  socket.on("error", () => undefined);
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  try {
    response.assignSocket(socket);
  } catch {
    socket.destroy();
    return undefined;
  }
  return response.once("finish", () => endSoon(socket));
}

const nothingHere = "nothing is here";
/** Not even the gateway's own pages: a name below the ingress domain is a VM's or nobody's. */
function nothingThere(response: ServerResponse | Http2ServerResponse): void {
  response.statusCode = 404;
  readOut(response);
  response.end(`${nothingHere}\n`);
}

const oneHost = "one host, please";
/** Node takes the first of several, another server the last: whom the request is for must not depend on who reads it. */
function hasSeveralHosts({ headersDistinct }: IncomingMessage): boolean {
  return (headersDistinct["host"] ?? []).length > 1;
}

/** What Node found wrong with a request of HTTP/1.1. */
function whyRefused({ code }: NodeJS.ErrnoException): [Refusal, number] {
  if (code === "HPE_HEADER_OVERFLOW") return ["header_bytes", 431];
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") return ["headers_time", 408];
  return ["bad_request", 400];
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
