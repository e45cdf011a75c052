// gRPC over cleartext HTTP/2: headers, messages and trailers go through unchanged.
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import type { Log } from "@pitwall/runtime";
import { statusTrailers } from "./grpc-reply.ts";
import { responseHeaders } from "./headers.ts";
import { unreachable } from "./unreachable.ts";
import type { OpenUpstream } from "./upstreams.ts";

const contentType = { ":status": 200, "content-type": "application/grpc+proto" };

/** Serves one call. Never throws: a failure is its status. */
export async function serveGrpc(
  stream: ServerHttp2Stream,
  path: string,
  headers: IncomingHttpHeaders,
  open: OpenUpstream,
  log: Log,
): Promise<void> {
  stream.on("error", () => undefined);
  const fail = (error: unknown): void => {
    log.debug("a call failed", { path, error });
    if (stream.destroyed) return;
    if (!stream.headersSent) stream.respond({ ...contentType, ...statusTrailers(error) }, { endStream: true });
    else stream.destroy();
  };
  try {
    const call = await open(path, headers);
    if (stream.destroyed) return void call.destroy();
    stream.once("close", () => call.destroy());
    let trailers = {};
    call.on("error", (error) => fail(unreachable(error)));
    call.once("response", (response, flags) => {
      // NGHTTP2_FLAG_END_STREAM: a reply that is trailers alone.
      if ((flags & 1) !== 0) return void stream.respond({ ...contentType, ...responseHeaders(response) }, { endStream: true });
      stream.respond({ ...contentType, ...responseHeaders(response) }, { waitForTrailers: true });
      stream.once("wantTrailers", () => stream.sendTrailers(trailers));
      call.pipe(stream);
    });
    call.once("trailers", (received: IncomingHttpHeaders) => {
      trailers = responseHeaders(received);
    });
    stream.pipe(call, { end: false });
    // A call that its client breaks off ends here like one that has said all: the guest would keep half a file for a whole one.
    stream.once("end", () =>
      stream.aborted || stream.rstCode !== constants.NGHTTP2_NO_ERROR ? call.close(constants.NGHTTP2_CANCEL) : call.end(),
    );
  } catch (error) {
    fail(error);
  }
}
