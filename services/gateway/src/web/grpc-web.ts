// gRPC-Web: the same frames as gRPC, with the trailers as the body's last frame (PROTOCOL-WEB.md of grpc/grpc), on HTTP/1.1 and HTTP/2.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { Transform, type Readable, type TransformCallback, type Writable } from "node:stream";
import { PitwallError } from "@pitwall/runtime";
import { exposing } from "./cors.ts";
import { trailersFrame } from "./grpc-reply.ts";
import { addressOf, stopListening, wasCut } from "./grpc.ts";
import { codecOf, type CallHeaders } from "./headers.ts";
import { gatherInlet } from "./inlet.ts";
import type { CallClient } from "./relay.ts";

const lingerMs = 2_000;

type Kind = "binary" | "text";

/** Whether a request is gRPC-Web; `text` is the base64 kind. */
export function grpcWebKind(contentType: string | undefined): Kind | undefined {
  const match = /^application\/grpc-web(-text)?(?:\+[\w.-]+)?\s*(?:;|$)/i.exec(contentType ?? "");
  return match ? (match[1] === undefined ? "binary" : "text") : undefined;
}

/** `always` are headers of every reply. */
export interface WebRequest {
  readonly path: string;
  readonly headers: CallHeaders;
  readonly kind: Kind;
  readonly always: OutgoingHttpHeaders;
  /** Whether a page may read whatever metadata the answer begins with. */
  readonly exposesAll: boolean;
}

export function grpcWebClientOnHttp1(request: IncomingMessage, response: ServerResponse, web: WebRequest): CallClient {
  return webClient(web, request, response, {
    source: request.socket.remoteAddress,
    wasCut: () => !request.complete,
    canAnswer: () => !response.destroyed,
    respond(headers) {
      response.writeHead(200, headers);
      response.flushHeaders();
    },
    end(last) {
      response.end(last);
      // What is still coming has nowhere to go. A client that sends all before it reads gets a moment for that.
      if (!request.complete) setTimeout(() => !request.complete && request.destroy(), lingerMs).unref();
    },
  });
}

export function grpcWebClientOnHttp2(stream: ServerHttp2Stream, web: WebRequest): CallClient {
  return webClient(web, stream, stream, {
    source: addressOf(stream),
    wasCut: () => wasCut(stream),
    canAnswer: () => !stream.destroyed && !stream.closed,
    respond: (headers) => stream.respond({ ":status": 200, ...headers }),
    end(last) {
      stream.end(last);
      stopListening(stream);
    },
  });
}

interface Transport {
  readonly source: string | undefined;
  wasCut(): boolean;
  canAnswer(): boolean;
  respond(headers: OutgoingHttpHeaders): void;
  end(last: string | Buffer): void;
}

function webClient(
  { path, headers, kind, always, exposesAll }: WebRequest,
  input: Readable,
  output: Writable,
  transport: Transport,
): CallClient {
  output.on("error", () => undefined);
  const encode = (chunk: Buffer): string | Buffer => (kind === "text" ? chunk.toString("base64") : chunk);
  const decoder = kind === "text" ? new Base64Decode() : undefined;
  if (decoder) {
    const early = gatherInlet(input);
    if (early) decoder.write(early);
    input.on("error", () => undefined).pipe(decoder);
  }
  let hasBegun = false;
  const respond = (contentType: string, metadata: CallHeaders): void => {
    hasBegun = true;
    transport.respond({ ...metadata, ...(exposesAll ? exposing(always, metadata) : always), "content-type": webType(contentType, kind) });
  };
  return {
    protocol: "grpc-web",
    source: transport.source,
    path,
    headers,
    body: decoder ?? input,
    wasCut: () => transport.wasCut(),
    begin(contentType, metadata) {
      if (transport.canAnswer()) respond(contentType, metadata);
    },
    cut: () => void output.destroy(),
    write: (chunk) => !transport.canAnswer() || output.write(encode(chunk)),
    finish(trailers) {
      if (!transport.canAnswer()) return;
      if (!hasBegun) respond(String(headers["content-type"]), {});
      transport.end(encode(trailersFrame(trailers)));
    },
    onDrain: (resume) => void output.on("drain", resume),
    onGone: (gone) => void output.once("close", gone),
  };
}

/** `application/grpc+proto` as `application/grpc-web+proto`, or its text kind. Takes both spellings. */
function webType(contentType: string, kind: Kind): string {
  return `application/grpc-web${kind === "text" ? "-text" : ""}${codecOf(contentType)}`;
}

/** Base64 in any chunks, padded or not in the middle: each padded group stands for itself. Fails as `invalid` for what is no base64. */
class Base64Decode extends Transform {
  #held = "";

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const text = this.#held + chunk.toString("latin1").replaceAll(/\s/g, "");
    const whole = text.length - (text.length % 4);
    this.#held = text.slice(whole);
    for (const group of text.slice(0, whole).match(/[^=]+={0,2}|=+/g) ?? []) {
      if (group.length % 4 !== 0 || !/^[\w+/-]+={0,2}$/.test(group)) return done(notBase64());
      this.push(Buffer.from(group, "base64"));
    }
    done();
  }

  override _flush(done: TransformCallback): void {
    done(this.#held === "" ? null : notBase64());
  }
}

function notBase64(): PitwallError {
  return new PitwallError("invalid", "the body of a gRPC-Web text call must be base64, in whole groups of four characters", {
    reason: "NOT_BASE64",
  });
}
