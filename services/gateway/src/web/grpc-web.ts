// gRPC-Web over HTTP/1.1: the same frames as gRPC, with the trailers as the body's last frame (PROTOCOL-WEB.md of grpc/grpc).
import type { IncomingMessage, ServerResponse } from "node:http";
import type { IncomingHttpHeaders } from "node:http2";
import { Transform, type TransformCallback } from "node:stream";
import type { Log } from "@pitwall/runtime";
import { statusTrailers, trailersFrame, type Trailers } from "./grpc-reply.ts";
import { responseHeaders } from "./headers.ts";
import { unreachable } from "./unreachable.ts";
import type { OpenUpstream } from "./upstreams.ts";

/** Whether a request is gRPC-Web; `text` is the base64 kind. */
export function grpcWebKind(contentType: string | undefined): "binary" | "text" | undefined {
  const match = /^application\/grpc-web(-text)?(?:\+proto)?\s*(?:;|$)/i.exec(contentType ?? "");
  return match ? (match[1] === undefined ? "binary" : "text") : undefined;
}

/** Serves one call. Never throws: a failure is its status. */
export async function serveGrpcWeb(
  request: IncomingMessage,
  response: ServerResponse,
  kind: "binary" | "text",
  open: OpenUpstream,
  log: Log,
): Promise<void> {
  const path = (request.url ?? "").split("?", 1)[0] ?? "";
  const isText = kind === "text";
  response.on("error", () => undefined);
  const encode = (chunk: Buffer): string | Buffer => (isText ? chunk.toString("base64") : chunk);
  const begin = (headers: Record<string, unknown>): void => {
    if (response.headersSent) return;
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, String(value));
    response.writeHead(200, { "content-type": isText ? "application/grpc-web-text+proto" : "application/grpc-web+proto" });
    response.flushHeaders();
  };
  const finish = (trailers: Trailers): void => {
    if (!response.writableEnded) response.end(encode(trailersFrame(trailers)));
  };
  const fail = (error: unknown): void => {
    log.debug("a call failed", { path, error });
    if (response.destroyed) return;
    begin({});
    finish(statusTrailers(error));
    request.resume(); // what is still coming is of no use
  };
  try {
    const call = await open(path, request.headers);
    if (response.destroyed) return void call.destroy();
    response.once("close", () => call.destroy());
    let trailers: Trailers = {};
    call.on("error", (error) => fail(unreachable(error)));
    call.once("response", (headers, flags) => {
      if ((flags & 1) !== 0) {
        // Trailers alone: the status came in the headers and goes into the body.
        begin({});
        return finish(plain(responseHeaders(headers)));
      }
      begin(responseHeaders(headers));
      call.on("data", (chunk: Buffer) => {
        if (!response.write(encode(chunk))) call.pause();
      });
      response.on("drain", () => call.resume());
      call.once("end", () => finish(trailers));
    });
    call.once("trailers", (received: IncomingHttpHeaders) => {
      trailers = plain(responseHeaders(received));
    });
    (isText ? request.pipe(new Base64Decode()) : request).pipe(call);
  } catch (error) {
    fail(error);
  }
}

function plain(headers: Record<string, unknown>): Trailers {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}

/** Base64 in any chunks, padded or not in the middle: each padded group stands for itself. */
class Base64Decode extends Transform {
  #held = "";

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const text = this.#held + chunk.toString("latin1").replace(/\s/g, "");
    const whole = text.length - (text.length % 4);
    this.#held = text.slice(whole);
    for (const group of text.slice(0, whole).match(/[^=]*={0,2}/g) ?? []) if (group !== "") this.push(Buffer.from(group, "base64"));
    done();
  }
}
