// What the web port answers to requests that are no calls: preflights, discovery, health, the console, and that there is nothing else.
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http2";
import type { ConsoleFiles } from "./console-files.ts";
import { isPreflight, preflightHeaders } from "./cors.ts";
import type { PlainReply } from "./plain-reply.ts";

export interface PlainParts {
  /** What /.well-known/pitwall says; without it there is no such page. */
  readonly discovery?: Readonly<Record<string, unknown>>;
  /** The console's; without it there is none. */
  readonly files?: ConsoleFiles | undefined;
  /** Whether pages may send whatever metadata they like, and read it: where nobody knows what methods take. Default: false. */
  readonly takesAnyMetadata?: boolean;
}

/** `cors` are the headers for the origin that asks. */
export function plainReply(
  { method, path, headers }: { method: string | undefined; path: string; headers: IncomingHttpHeaders },
  cors: OutgoingHttpHeaders,
  { discovery, files, takesAnyMetadata = false }: PlainParts,
): PlainReply {
  const asked = takesAnyMetadata ? headers["access-control-request-headers"] : undefined;
  if (isPreflight(method, cors)) return { status: 204, headers: preflightHeaders(asked), body: "" };
  if (method === "POST")
    return text(415, "this address takes application/grpc-web, application/grpc-web-text, or on HTTP/2 application/grpc\n");
  if (method !== "GET" && method !== "HEAD") return text(405, "this address takes gRPC-Web, or GET\n");
  if (path === "/.well-known/pitwall" && discovery) return text(200, `${JSON.stringify(discovery)}\n`, "application/json");
  if (path === "/healthz") return text(200, "ok\n");
  return files?.reply(path, headers) ?? text(404, "nothing is here\n");
}

function text(status: number, body: string, type = "text/plain"): PlainReply {
  return { status, headers: { "content-type": type, "x-content-type-options": "nosniff" }, body };
}
