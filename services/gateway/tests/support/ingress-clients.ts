// Clients of ports of VMs, with a token unless they are told otherwise.
import { once } from "node:events";
import { request, type IncomingHttpHeaders, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import type { ClientHttp2Session } from "node:http2";
import { connect, type Socket } from "node:net";
import { onTestFinished } from "vitest";
import { bearer } from "./vm-behind.ts";

interface Heard {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export async function bodyOf(from: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of from) chunks.push(chunk as Buffer); // no encoding is set
  return Buffer.concat(chunks);
}

interface Asked {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: Buffer | string;
  /** The client's own address. */
  readonly from?: string;
}

export async function ask1(port: number, { method = "GET", path = "/vm/web/80/", headers = {}, body, from }: Asked = {}): Promise<Heard> {
  const localAddress = from === undefined ? {} : { localAddress: from };
  const sent = request({ port, host: "127.0.0.1", ...localAddress, method, path, headers: { authorization: bearer, ...headers } });
  sent.end(body);
  const [reply] = (await once(sent, "response")) as [IncomingMessage];
  return { status: reply.statusCode ?? 0, headers: reply.headers, body: await bodyOf(reply) };
}

export async function ask2(
  session: ClientHttp2Session,
  { method = "GET", path = "/vm/web/80/", headers = {}, body }: Asked = {},
): Promise<Heard> {
  const stream = session.request(
    { ":method": method, ":path": path, authorization: bearer, ...headers },
    { endStream: body === undefined },
  );
  if (body !== undefined) stream.end(body);
  const [head] = (await once(stream, "response")) as [IncomingHttpHeaders];
  return { status: Number(head[":status"]), headers: head, body: await bodyOf(stream) };
}

export async function socketTo(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => undefined);
  onTestFinished(() => void socket.destroy());
  await once(socket, "connect");
  return socket;
}

/** What it says, until it has said that, or has ended; it can be written to thereafter. */
export function heardFrom(socket: Socket, until: RegExp): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const done = (): void => {
      socket.off("data", hear).off("close", done);
      resolve(text);
    };
    const hear = (chunk: Buffer | string): void => {
      text += chunk.toString("latin1");
      if (until.test(text)) done();
    };
    socket.on("data", hear).on("close", done);
  });
}

/** The same, and closes it. */
export async function textUntil(socket: Socket, until: RegExp): Promise<string> {
  const text = await heardFrom(socket, until);
  socket.destroy();
  return text;
}
