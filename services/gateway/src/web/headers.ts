// Which headers go through.
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http2";

/** Of the connection, of the browser, or of our own making: never forwarded. */
const dropped: ReadonlySet<string> = new Set([
  ...["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host", "te", "trailer", "expect"],
  ...[
    "content-type",
    "content-length",
    "accept",
    "accept-encoding",
    "accept-language",
    "origin",
    "referer",
    "cookie",
    "x-grpc-web",
    "x-user-agent",
    "dnt",
  ],
  "pitwall-peer-internal",
]);

/** Call metadata and gRPC's own headers, as the upstream call's headers. */
export function upstreamHeaders(path: string, incoming: IncomingHttpHeaders): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = { ":method": "POST", ":path": path, "content-type": "application/grpc+proto", te: "trailers" };
  for (const [name, value] of Object.entries(incoming)) {
    if (!name.startsWith(":") && !name.startsWith("sec-") && !name.startsWith("proxy-") && !dropped.has(name) && value !== undefined)
      headers[name] = value;
  }
  return headers;
}

/** Response metadata. */
export function responseHeaders(upstream: IncomingHttpHeaders): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  for (const [name, value] of Object.entries(upstream)) {
    if (!name.startsWith(":") && name !== "content-type" && name !== "date" && name !== "connection" && value !== undefined)
      headers[name] = value;
  }
  return headers;
}
