// HTTP, WebSocket and TCP into a VM: `/vm/NAME/PORT/PATH` with a bearer token becomes `/PATH` at that port, and `/PATH` on a host name of the VM's
// own below the ingress domain, too, for who has a token or a grant, and for everybody where the port is public.
import { request as httpRequest, type ClientRequest, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from "node:http";
import { constants, Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Caller } from "@pitwall/proto/pitwall/v1/access.ts";
import { invalid, PitwallError, splice, systemClock } from "@pitwall/runtime";
import { maxTunnelListeners, type ByHost, type Tunnels } from "../tunnels/tunnels.ts";
import type { Door } from "./door.ts";
import { readOut, stopListening } from "./grpc.ts";
import { grantCaller, grantCookie, grantIn, grantPrincipal, ingressCaller, type IngressCaller } from "./ingress-credential.ts";
import { authorityOf, framingOf, headersIn, headersOut, headersOutOnOwnHost, type Came, type IngressRequest } from "./ingress-headers.ts";
import { ingressHost } from "./ingress-host.ts";
import { ingressRefusal, notHttp } from "./ingress-refusal.ts";
import type { Principals } from "./principals.ts";

/** In the `upgrade` header: bytes, as they are, instead of HTTP. */
const tcp = "pitwall-tcp";
/** Headers of an answer; as much as a client may send. */
const maxAnswerHeaderBytes = 16 * 1024;
const keepAliveMs = 60_000;

type Response = ServerResponse | Http2ServerResponse;

export interface Target {
  readonly vm: string | ByHost;
  /** 0: the VM's usual one. */
  readonly port: number;
  readonly path: string;
  /** What stood before the path; undefined on a VM's own host. */
  readonly prefix: string | undefined;
}

/** The target of a URL below `/vm/`; undefined for other URLs. Throws `invalid` for a bad port. */
export function ingressTarget(url: string): Target | undefined {
  const match = /^\/vm\/([a-z0-9-]{1,63})\/(\d{1,5})(\/[^#]*)?$/.exec(url.includes("?") ? url.replace("?", "\u0000") : url);
  const [, vm, portText, path = "/"] = match ?? [];
  if (vm === undefined) return undefined;
  const port = Number(portText);
  if (port < 1 || port > 65535) throw invalid("port", `must be 1 to 65535, got ${portText}`);
  return { vm, port, path: path.replace("\u0000", "?"), prefix: `/vm/${vm}/${port}` };
}

/** Whether a request asks for something that this way knows besides HTTP; others are requests like any, as RFC 9110 section 7.8 lets them be. */
export function isKnownUpgrade({ headers }: Pick<IncomingMessage, "headers">): boolean {
  return [tcp, "websocket"].includes((headers.upgrade ?? "").toLowerCase());
}

export interface Ingress {
  /** Where a request leads whose host is below the ingress domain; undefined: it is not. Null: nowhere. */
  ofHost(authority: string, url: string): Target | null | undefined;
  /** Never throws: the answer says what went wrong. */
  serve(request: IngressRequest, response: Response, target: Target): Promise<void>;
  /** The same for a request that {@link isKnownUpgrade}; `response` is on its socket. */
  upgrade(request: IncomingMessage, response: ServerResponse, head: Buffer, target: Target): Promise<void>;
}

export interface IngressParts {
  readonly door: Door;
  readonly tunnels: Pick<Tunnels, "open" | "mayEnter">;
  /** Of Pitwall's JWTs, which no VM is shown. */
  readonly issuer: string;
  /** Below which VMs have host names; undefined: none. */
  readonly domain: string | undefined;
  readonly principals: Principals;
  readonly isSecure: boolean;
  /** Without a byte either way, before the answer and within it. */
  readonly idleMs: number;
}

export function openIngress({ door, tunnels, issuer, domain, principals, isSecure, idleMs }: IngressParts): Ingress {
  async function callerOf(request: IngressRequest, { vm }: Target): Promise<IngressCaller> {
    const { headers, method = "" } = request;
    if (typeof vm !== "string") {
      const schemes = isSecure ? ["https"] : ["http", "https"]; // before a cleartext port something else may speak TLS
      const origins = schemes.map((scheme) => `${scheme}://${authorityOf(headers)}`);
      return ingressCaller(door, { method, headers, origins, issuer, host: vm.host, address: request.socket.remoteAddress });
    }
    const { credential: value, principal } = await door(headers.authorization);
    return { caller: { credential: { $case: "bearerToken", value } }, principal, isAuthorizationTheirs: false };
  }

  /** Counts to a principal for as long as work is done for the response, and until that is over. */
  async function counted<T>(response: Response, gone: AbortSignal, principal: string, work: () => Promise<T>): Promise<T> {
    const leave = principals.enter(principal);
    try {
      return await work();
    } finally {
      if (gone.aborted) leave();
      else response.once("close", leave);
    }
  }

  /** Ends with the response. Undefined: its client has gone meanwhile. */
  async function dial(request: IngressRequest, response: Response, target: Target): Promise<Way | undefined> {
    const { vm, port } = target;
    const gone = goneWith(response);
    const { caller, principal, isAuthorizationTheirs } = await callerOf(request, target);
    if (gone.aborted) return undefined;
    return counted(response, gone, principal, async () => {
      const opening = tunnels.open(caller, vm, { target: { $case: "tcp", value: { port } } }, { signal: gone });
      const opened = await opening.catch((error: unknown) => {
        if (!gone.aborted) throw error;
      });
      if (!opened) return undefined;
      const { stream } = opened;
      stream.on("error", () => undefined); // who waits for an answer hears it, too
      if (gone.aborted) return void stream.destroy();
      response.once("close", () => stream.destroy());
      stream.setTimeout(idleMs, () => stream.destroy(tooQuiet(idleMs)));
      return { stream, isAuthorizationTheirs, credential: caller.credential?.$case };
    });
  }

  function ask(
    request: IngressRequest,
    { stream, isAuthorizationTheirs }: Way,
    { path, prefix }: Target,
    more: OutgoingHttpHeaders,
  ): ClientRequest {
    const came: Came = { address: request.socket.remoteAddress, isSecure, prefix, isAuthorizationTheirs };
    const asked = httpRequest({
      method: request.method,
      path: grantIn(path)?.rest ?? path, // it is not the VM's, and not every request that has one is led to the address without it
      headers: { ...headersIn(request.headers, came), ...more },
      setHost: false,
      maxHeaderSize: maxAnswerHeaderBytes,
      createConnection: () => stream,
    });
    // Node takes the stream up a moment later, and of one that has closed by then it hears nothing.
    const onClosed = (): void => void (asked.socket ?? asked.destroy(new Error("the way into the VM has closed")));
    if (stream.closed) onClosed();
    else stream.once("close", onClosed);
    return asked;
  }

  /** Puts a grant where a browser keeps it, and sends it on to the address without it, which may be shown, kept and passed on. */
  async function letIn(response: Response, vm: ByHost, port: number, { grant, rest }: { grant: string; rest: string }): Promise<void> {
    const cookie = grantCookie(grant, systemClock.wallMs() / 1_000);
    const gone = goneWith(response);
    const isLetIn = (): Promise<boolean> => tunnels.mayEnter(grantCaller(grant), vm, port, gone);
    if (cookie === undefined || !(await counted(response, gone, grantPrincipal(grant), isLetIn)))
      throw new PitwallError("denied", "this address lets nobody in, or no longer; ask whoever gave it to you for a new one", {
        reason: "GRANT_REFUSED",
      });
    const silent = { "referrer-policy": "no-referrer", "cache-control": "no-store" };
    begin(response, 303, { location: rest, "set-cookie": cookie, ...silent });
    response.end();
  }

  return {
    ofHost(authority, url) {
      if (domain === undefined) return undefined;
      const named = ingressHost(authority, domain);
      if (!named || !url.startsWith("/")) return named && null;
      return { vm: { host: named.host }, port: named.port, path: url, prefix: undefined };
    },
    async serve(request, response, target) {
      if (response instanceof Http2ServerResponse) stopListening(response.stream);
      try {
        const { vm, port, path } = target;
        const given = typeof vm !== "string" && (request.method === "GET" || request.method === "HEAD") ? grantIn(path) : undefined;
        if (given && typeof vm !== "string") return await letIn(response, vm, port, given);
        const way = await dial(request, response, target);
        if (!way) return;
        const { stream } = way;
        const asked = ask(request, way, target, framingOf(request));
        hear(asked, response, target, way)
          // Nobody has asked for it: Node would end the connection without a word.
          .once("upgrade", (_reply: IncomingMessage, inner: Duplex) => {
            inner.destroy();
            refuse(response, notHttp());
          });
        request.pipe(asked, { end: false });
        // On HTTP/2 a body that its client breaks off ends like one that is whole.
        request.once("end", () => (wasCut(request) ? stream.destroy() : asked.end())).once("aborted", () => stream.destroy());
      } catch (error) {
        refuse(response, error);
      }
    },
    async upgrade(request, response, head, target) {
      const socket = request.socket.setMaxListeners(maxTunnelListeners);
      const isTcp = (request.headers.upgrade ?? "").toLowerCase() === tcp;
      socket.allowHalfOpen = isTcp;
      try {
        const way = await dial(request, response, target);
        if (!way) return;
        const { stream } = way;
        if (isTcp) {
          begin(response, 101, { connection: "Upgrade", upgrade: tcp });
          response.flushHeaders();
          // Of somebody who is known it may be quiet for as long as it likes; one whose other end is gone is found by keepalive.
          if (way.credential === "bearerToken") stream.setTimeout(0);
          socket.setKeepAlive(true, keepAliveMs);
          if (head.length > 0) stream.write(head);
          return void splice(socket, stream);
        }
        const asked = ask(request, way, target, { connection: "Upgrade", upgrade: "websocket" });
        hear(asked, response, target, way)
          // Only now may bytes go through as they are: what is no such answer would make the client's next request the VM's.
          .once("upgrade", (reply: IncomingMessage, inner: Duplex, first: Buffer) => {
            if ((reply.headers.upgrade ?? "").toLowerCase() !== "websocket") {
              inner.destroy();
              return refuse(response, notHttp());
            }
            begin(response, 101, { ...answerHeaders(reply, target, way), connection: "Upgrade", upgrade: "websocket" });
            response.flushHeaders();
            if (first.length > 0) socket.write(first);
            if (head.length > 0) inner.write(head);
            void splice(socket, inner);
          });
        asked.end();
      } catch (error) {
        refuse(response, error);
      }
    },
  };
}

/** A way that is open, and what of the request goes through it. */
interface Way {
  readonly stream: Socket;
  readonly isAuthorizationTheirs: boolean;
  /** Of who came. */
  readonly credential: NonNullable<Caller["credential"]>["$case"] | undefined;
}

function answerHeaders({ headers }: IncomingMessage, { prefix }: Target, { credential }: Way): OutgoingHttpHeaders {
  return prefix === undefined ? headersOutOnOwnHost(headers, credential === "anonymous") : headersOut(headers);
}

/** Passes the answer on, or says why there is none. */
function hear(asked: ClientRequest, response: Response, target: Target, way: Way): ClientRequest {
  let begun: IncomingMessage | undefined;
  return asked
    .on("error", (error) => {
      begun?.unpipe(response); // what came with the fault is no answer, and must not follow what is said instead
      refuse(response, error);
    })
    .once("response", (reply) => {
      begun = reply;
      answer(response, reply, target, way);
    });
}

function answer(response: Response, reply: IncomingMessage, target: Target, way: Way): void {
  const headers = answerHeaders(reply, target, way);
  const { statusCode = 0 } = reply;
  if (statusCode === 204) delete headers["content-length"]; // RFC 9110 section 8.6: whoever reads it after us may wait for as much
  try {
    // Node takes others for granted here, and throws where nobody listens.
    if (statusCode < 200 || statusCode > 599) throw notHttp();
    begin(response, statusCode, headers);
  } catch (error) {
    reply.destroy();
    for (const name of Object.keys(headers)) response.removeHeader(name);
    return refuse(response, error); // a header that HTTP/2 does not have
  }
  reply.once("error", () => cut(response)).once("aborted", () => cut(response));
  reply.pipe(response);
}

function refuse(response: Response, error: unknown): void {
  if (response.headersSent) return cut(response);
  readOut(response);
  const { status, words } = ingressRefusal(error);
  begin(response, status, { "content-type": "text/plain; charset=utf-8", ...(status === 401 && { "www-authenticate": "Bearer" }) });
  response.end(`${words}\n`);
}

function goneWith(response: Response): AbortSignal {
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  return gone.signal;
}

function wasCut(request: IngressRequest): boolean {
  return request instanceof Http2ServerRequest && (request.stream.aborted || request.stream.destroyed || request.stream.rstCode !== 0);
}

/** An answer that has begun must not look whole. */
function cut(response: Response): void {
  if (response instanceof Http2ServerResponse) response.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  else response.destroy();
}

/** Their `writeHead`s are of two types. What the VM's answer depends on is added to what the gateway's does. */
function begin(response: Response, status: number, headers: OutgoingHttpHeaders): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) {
    const own = name === "vary" ? response.getHeader(name) : undefined;
    if (value !== undefined) response.setHeader(name, own === undefined ? value : [own, value].flat().join(", "));
  }
}

function tooQuiet(idleMs: number): PitwallError {
  return new PitwallError("deadline", `nothing came from this port of the VM, and nothing went there, for ${idleMs / 1_000} s`, {
    reason: "INGRESS_IDLE",
  });
}
