// Both ends of a gateway in tests: an HTTP/2 server that does what a test says, and raw clients.
import { once } from "node:events";
import { request } from "node:http";
import {
  connect,
  createServer,
  type ClientHttp2Session,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { AddressInfo } from "node:net";

export interface Upstream extends AsyncDisposable {
  readonly port: number;
  readonly sessions: ReadonlySet<ServerHttp2Session>;
}

type Serve = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, raw: readonly string[]) => void;

export async function openUpstream(serve: Serve, settings = {}): Promise<Upstream> {
  const sessions = new Set<ServerHttp2Session>();
  const server = createServer({ settings });
  server.on("session", (session) => {
    sessions.add(session);
    session.on("error", () => undefined).once("close", () => sessions.delete(session));
  });
  server.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, _flags: number, raw: string[]) => {
    stream.on("error", () => undefined);
    serve(stream, headers, raw);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port, // it listens on TCP
    sessions,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      for (const session of sessions) session.destroy();
      await closed;
    },
  };
}

export interface Answer {
  readonly status: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
}

export const webHeaders = { "content-type": "application/grpc-web+proto" };

/** A gRPC-Web call on HTTP/1.1. */
export async function call(port: number, body: Buffer | string, headers: OutgoingHttpHeaders = webHeaders): Promise<Answer> {
  const sent = request({ port, host: "127.0.0.1", path: "/a.B/C", method: "POST", headers });
  sent.end(body);
  const [answer] = (await once(sent, "response")) as [import("node:http").IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer); // no encoding is set
  return { status: answer.statusCode, headers: answer.headers, rawHeaders: answer.rawHeaders, body: Buffer.concat(chunks) };
}

/** The same on HTTP/2 with prior knowledge. */
export async function call2(
  session: ClientHttp2Session,
  body: Buffer | string,
  headers: OutgoingHttpHeaders = webHeaders,
): Promise<Answer & { trailers: IncomingHttpHeaders }> {
  const stream = session.request({ ":method": "POST", ":path": "/a.B/C", ...headers });
  let trailers: IncomingHttpHeaders = {};
  stream.once("trailers", (received: IncomingHttpHeaders) => (trailers = received));
  stream.end(body);
  const [answer, , rawHeaders] = (await once(stream, "response")) as [IncomingHttpHeaders, number, string[]];
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer); // no encoding is set
  return { status: Number(answer[":status"]), headers: answer, rawHeaders, body: Buffer.concat(chunks), trailers };
}

/** A client's connection; disposing it ends its calls. */
export async function session2(port: number): Promise<ClientHttp2Session & AsyncDisposable> {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on("error", () => undefined);
  await once(session, "connect");
  return Object.assign(session, { [Symbol.asyncDispose]: async () => session.destroy() });
}

/** The trailers that end a binary gRPC-Web body. */
export function trailersOf(body: Buffer): string {
  for (let at = 0; at + 5 <= body.length; at += 5 + body.readUInt32BE(at + 1)) {
    if (((body[at] ?? 0) & 0x80) !== 0) return body.subarray(at + 5, at + 5 + body.readUInt32BE(at + 1)).toString("latin1");
  }
  return "";
}
