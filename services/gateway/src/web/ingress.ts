// HTTP, WebSocket and TCP into a VM: `/vm/NAME/PORT/PATH` with a bearer token becomes `/PATH` at that port.
import { request as httpRequest, type ClientRequest, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from "node:http";
import { constants, Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { invalid, PitwallError, splice } from "@pitwall/runtime";
import type { Tunnels } from "../tunnels/tunnels.ts";
import type { Door } from "./door.ts";
import { framingOf, headersIn, headersOut, type Came, type IngressRequest } from "./ingress-headers.ts";
import { ingressRefusal } from "./ingress-refusal.ts";
import type { Principals } from "./principals.ts";

/** In the `upgrade` header: bytes, as they are, instead of HTTP. */
const tcp = "pitwall-tcp";
/** Headers of an answer; as much as a client may send. */
const maxAnswerHeaderBytes = 16 * 1024;
/** Of what looks after a way into a VM, and of joining it to another one; more would be a leak. */
const maxListeners = 25;

type Response = ServerResponse | Http2ServerResponse;

interface Target {
  readonly vm: string;
  readonly port: number;
  readonly path: string;
}

/** The target of a URL below `/vm/`; undefined for other URLs. Throws `invalid` for a bad port. */
export function ingressTarget(url: string): Target | undefined {
  const match = /^\/vm\/([a-z0-9-]{1,63})\/(\d{1,5})(\/[^#]*)?$/.exec(url.includes("?") ? url.replace("?", "\u0000") : url);
  const [, vm, portText, path = "/"] = match ?? [];
  if (vm === undefined) return undefined;
  const port = Number(portText);
  if (port < 1 || port > 65535) throw invalid("port", `must be 1 to 65535, got ${portText}`);
  return { vm, port, path: path.replace("\u0000", "?") };
}

/** Whether a request asks for something that this way knows besides HTTP; others are requests like any, as RFC 9110 section 7.8 lets them be. */
export function isKnownUpgrade({ headers }: Pick<IncomingMessage, "headers">): boolean {
  return [tcp, "websocket"].includes((headers.upgrade ?? "").toLowerCase());
}

export interface Ingress {
  /** Never throws: the answer says what went wrong. */
  serve(request: IngressRequest, response: Response, target: Target): Promise<void>;
  /** The same for a request that {@link isKnownUpgrade}; `response` is on its socket. */
  upgrade(request: IncomingMessage, response: ServerResponse, head: Buffer, target: Target): Promise<void>;
}

export interface IngressParts {
  readonly door: Door;
  readonly tunnels: Pick<Tunnels, "open">;
  readonly principals: Principals;
  readonly isSecure: boolean;
  /** Without a byte either way, before the answer and within it. */
  readonly idleMs: number;
}

export function openIngress({ door, tunnels, principals, isSecure, idleMs }: IngressParts): Ingress {
  /** Ends with the response. Undefined: its client has gone meanwhile. */
  async function dial(request: IngressRequest, response: Response, { vm, port }: Target): Promise<Socket | undefined> {
    let isGone = false;
    response.once("close", () => (isGone = true));
    const { credential: value, principal } = await door(request.headers.authorization);
    response.once("close", principals.enter(principal));
    const { stream } = await tunnels.open({ credential: { $case: "bearerToken", value } }, vm, {
      target: { $case: "tcp", value: { port } },
    });
    stream.setMaxListeners(maxListeners).on("error", () => undefined); // who waits for an answer hears it, too
    if (isGone) return void stream.destroy();
    response.once("close", () => stream.destroy());
    return stream.setTimeout(idleMs, () => stream.destroy(tooQuiet(port, idleMs)));
  }

  function ask(request: IngressRequest, stream: Duplex, { vm, port, path }: Target, more: OutgoingHttpHeaders): ClientRequest {
    const came: Came = { address: request.socket.remoteAddress, isSecure, prefix: `/vm/${vm}/${port}` };
    return httpRequest({
      method: request.method,
      path,
      headers: { ...headersIn(request.headers, came), ...more },
      setHost: false,
      maxHeaderSize: maxAnswerHeaderBytes,
      createConnection: () => stream,
    });
  }

  return {
    async serve(request, response, target) {
      try {
        const stream = await dial(request, response, target);
        if (!stream) return;
        const asked = ask(request, stream, target, framingOf(request));
        asked.on("error", (error) => refuse(response, error)).once("response", (reply) => answer(response, reply));
        request.pipe(asked, { end: false });
        // On HTTP/2 a body that its client breaks off ends like one that is whole.
        request.once("end", () => (wasCut(request) ? stream.destroy() : asked.end())).once("aborted", () => stream.destroy());
      } catch (error) {
        refuse(response, error);
      }
    },
    async upgrade(request, response, head, target) {
      const socket = request.socket.setMaxListeners(maxListeners);
      const isTcp = (request.headers.upgrade ?? "").toLowerCase() === tcp;
      socket.allowHalfOpen = isTcp;
      try {
        const stream = await dial(request, response, target);
        if (!stream) return;
        if (isTcp) {
          begin(response, 101, { connection: "Upgrade", upgrade: tcp });
          response.flushHeaders();
          if (head.length > 0) stream.write(head);
          return void splice(socket, stream);
        }
        const asked = ask(request, stream, target, { connection: "Upgrade", upgrade: "websocket" });
        asked
          .on("error", (error) => refuse(response, error))
          .once("response", (reply) => answer(response, reply))
          // Only now may bytes go through as they are: what is no such answer would make the client's next request the VM's.
          .once("upgrade", (reply: IncomingMessage, inner: Duplex, first: Buffer) => {
            begin(response, 101, { ...headersOut(reply.headers), connection: "Upgrade", upgrade: "websocket" });
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

function answer(response: Response, reply: IncomingMessage): void {
  const headers = headersOut(reply.headers);
  try {
    begin(response, reply.statusCode ?? 502, headers);
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
  const { status, words } = ingressRefusal(error);
  begin(response, status, { "content-type": "text/plain; charset=utf-8", ...(status === 401 && { "www-authenticate": "Bearer" }) });
  response.end(`${words}\n`);
}

function wasCut(request: IngressRequest): boolean {
  return request instanceof Http2ServerRequest && (request.stream.aborted || request.stream.destroyed || request.stream.rstCode !== 0);
}

/** An answer that has begun must not look whole. */
function cut(response: Response): void {
  if (response instanceof Http2ServerResponse) response.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  else response.destroy();
}

/** Their `writeHead`s are of two types. */
function begin(response: Response, status: number, headers: OutgoingHttpHeaders): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) if (value !== undefined) response.setHeader(name, value);
}

function tooQuiet(port: number, idleMs: number): PitwallError {
  return new PitwallError("deadline", `nothing came from port ${port} of the VM, and nothing went there, for ${idleMs / 1_000} s`, {
    reason: "INGRESS_IDLE",
  });
}
