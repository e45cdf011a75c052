// HTTP and WebSocket into a VM: `/vm/NAME/PORT/PATH` with a bearer token becomes `/PATH` at that port.
import { request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Duplex } from "node:stream";
import { invalid, PitwallError, splice, type Fault } from "@pitwall/runtime";
import type { Tunnels } from "../tunnels/tunnels.ts";
import type { Door } from "./door.ts";
import { unreachable } from "./unreachable.ts";

const httpStatus: Readonly<Partial<Record<Fault, number>>> = {
  invalid: 400,
  unauthenticated: 401,
  denied: 403,
  "not-found": 404,
  state: 409,
  exhausted: 429,
  unavailable: 503,
  deadline: 504,
};
/** On either version of HTTP. */
type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

const hopByHop = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

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

export interface Ingress {
  serve(request: Request, response: Response, target: Target): Promise<void>;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, target: Target): Promise<void>;
}

export function openIngress(door: Door, tunnels: Tunnels): Ingress {
  async function dial(request: Request, { vm, port }: Target): Promise<Duplex> {
    const value = await door(request.headers.authorization);
    const { stream } = await tunnels.open({ credential: { $case: "bearerToken", value } }, vm, {
      target: { $case: "tcp", value: { port } },
    });
    return stream;
  }

  return {
    async serve(request, response, target) {
      try {
        const stream = await dial(request, target);
        response.once("close", () => stream.destroy());
        const upstream = httpRequest({
          method: request.method,
          path: target.path,
          headers: forwarded(request, false),
          createConnection: () => stream,
        });
        upstream.on("error", (error) => replyError(response, unreachable(error)));
        upstream.once("response", (reply) => {
          const headers = Object.fromEntries(Object.entries(reply.headers).filter(([name]) => !hopByHop.includes(name)));
          begin(response, reply.statusCode ?? 502, headers);
          reply.pipe(response);
          reply.once("error", () => response.destroy());
        });
        request.pipe(upstream);
      } catch (error) {
        replyError(response, error);
      }
    },
    async upgrade(request, socket, head, target) {
      socket.on("error", () => undefined);
      try {
        const stream = await dial(request, target);
        const lines = Object.entries(forwarded(request, true)).flatMap(([name, value]) =>
          value === undefined ? [] : [`${name}: ${String(value)}`],
        );
        stream.write(`${request.method} ${target.path} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`, "latin1");
        if (head.length > 0) stream.write(head);
        await splice(socket, stream);
      } catch (error) {
        const { status, message } = describe(error);
        socket.end(
          `HTTP/1.1 ${status} ${status === 401 ? "Unauthorized" : "Refused"}\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\n${message}\n`,
        );
      }
    },
  };
}

/** The user's credential is not the VM's to see. */
function forwarded({ headers }: Request, isUpgrade: boolean): Record<string, string | string[] | undefined> {
  const rest = Object.entries(headers).filter(
    ([name]) => name !== "authorization" && !hopByHop.includes(name) && !/^(:|forwarded$|x-forwarded-)/.test(name),
  );
  const host = headers.host ?? String(headers[":authority"] ?? "");
  return { ...Object.fromEntries(rest), host, ...(isUpgrade && { connection: "Upgrade", upgrade: headers.upgrade }) };
}

function describe(error: unknown): { status: number; message: string } {
  if (!(error instanceof PitwallError)) return { status: 500, message: "internal error" };
  return { status: httpStatus[error.fault] ?? 502, message: error.message };
}

function replyError(response: Response, error: unknown): void {
  if (response.headersSent) return void response.destroy();
  const { status, message } = describe(error);
  begin(response, status, { "content-type": "text/plain; charset=utf-8", ...(status === 401 && { "www-authenticate": "Bearer" }) });
  response.end(`${message}\n`);
}

/** Their `writeHead`s are of two types. */
function begin(response: Response, status: number, headers: Readonly<Record<string, string | readonly string[] | undefined>>): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) if (value !== undefined) response.setHeader(name, value);
}
