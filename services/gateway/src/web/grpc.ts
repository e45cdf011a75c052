// gRPC over HTTP/2: headers, messages and trailers go through unchanged.
import type { ServerResponse } from "node:http";
import { constants, Http2ServerResponse, type ServerHttp2Stream } from "node:http2";
import type { Trailers } from "./grpc-reply.ts";
import type { CallHeaders } from "./headers.ts";
import type { CallClient } from "./relay.ts";

/** Whether a request is gRPC. */
export function isGrpc(contentType: string | undefined): boolean {
  return /^application\/grpc(\+[\w.-]+)?\s*(;|$)/i.test(contentType ?? "");
}

export function grpcClient(stream: ServerHttp2Stream, path: string, headers: CallHeaders): CallClient {
  stream.on("error", () => undefined);
  const contentType = String(headers["content-type"]);
  const canAnswer = (): boolean => !stream.destroyed && !stream.closed;
  return {
    protocol: "grpc",
    source: addressOf(stream),
    path,
    headers,
    body: stream,
    wasCut: () => wasCut(stream),
    begin(type, metadata) {
      if (canAnswer()) stream.respond({ ":status": 200, "content-type": type, ...metadata }, { waitForTrailers: true });
    },
    cut: () => stream.close(constants.NGHTTP2_INTERNAL_ERROR),
    write: (chunk) => !canAnswer() || stream.write(chunk),
    finish(trailers) {
      if (!canAnswer()) return;
      if (stream.headersSent) return endWith(stream, trailers);
      stream.respond({ ":status": 200, "content-type": contentType, ...trailers }, { endStream: true });
      stopListening(stream);
    },
    onDrain: (resume) => void stream.on("drain", resume),
    onGone: (gone) => void stream.once("close", gone),
  };
}

/** Where its client is. */
export function addressOf({ session }: ServerHttp2Stream): string | undefined {
  return session?.destroyed === false ? session.socket.remoteAddress : undefined;
}

function endWith(stream: ServerHttp2Stream, trailers: Trailers): void {
  stream.once("wantTrailers", () => {
    try {
      stream.sendTrailers({ ...trailers });
      stopListening(stream);
    } catch {
      stream.close(constants.NGHTTP2_INTERNAL_ERROR); // a header that Node refuses to send
    }
  });
  stream.end();
}

/** Whether its client broke a request off that has ended. */
export function wasCut(stream: ServerHttp2Stream): boolean {
  return stream.aborted || stream.rstCode !== constants.NGHTTP2_NO_ERROR;
}

/** Before an answer to what nobody has read: Node resets such a stream by itself, and that may overtake the answer's end. */
export function readOut(response: ServerResponse | Http2ServerResponse): void {
  if (response instanceof Http2ServerResponse) response.stream.resume();
}

const endLookMs = 5;

/** Once all is sent, tells a client that is still sending to stop (RFC 9113 section 8.1). */
export function stopListening(stream: ServerHttp2Stream): void {
  if (stream.endAfterHeaders) return; // it sends nothing
  const stop = (): void => {
    if (stream.readableEnded || stream.closed) return;
    // "finish" is when all was handed over, and a reset that overtakes the end makes the answer one that never ended.
    if (stream.state.localClose === 1) stream.close(constants.NGHTTP2_NO_ERROR);
    else setTimeout(stop, endLookMs).unref();
  };
  if (stream.writableFinished) setImmediate(stop);
  else stream.once("finish", () => setImmediate(stop));
}
