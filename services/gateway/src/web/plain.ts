// What the web port answers to requests that are no calls: preflights, discovery, health, and that there is nothing else.
import type { OutgoingHttpHeaders } from "node:http2";
import { isPreflight, preflightHeaders } from "./cors.ts";

export interface PlainReply {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  readonly body: string;
}

/** `cors` are the headers for the origin that asks; `asked` is what a page asks to send, where it may send any metadata. */
export function plainReply(
  method: string | undefined,
  path: string,
  cors: OutgoingHttpHeaders,
  discovery: Readonly<Record<string, unknown>> | undefined,
  asked?: string,
): PlainReply {
  if (isPreflight(method, cors)) return { status: 204, headers: preflightHeaders(asked), body: "" };
  if (method === "POST")
    return text(415, "this address takes application/grpc-web, application/grpc-web-text, or on HTTP/2 application/grpc\n");
  if (method !== "GET" && method !== "HEAD") return text(405, "this address takes gRPC-Web, or GET\n");
  if (path === "/.well-known/pitwall" && discovery) return text(200, `${JSON.stringify(discovery)}\n`, "application/json");
  if (path === "/healthz") return text(200, "ok\n");
  return text(404, "nothing is here\n");
}

function text(status: number, body: string, type = "text/plain"): PlainReply {
  return { status, headers: { "content-type": type, "x-content-type-options": "nosniff" }, body };
}
