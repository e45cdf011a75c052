// Which pages may call: origins compared whole, and answers that name the one that asked.
import type { OutgoingHttpHeaders } from "node:http2";

const exposed = "grpc-status,grpc-message,grpc-status-details-bin";
const allowed = "authorization,content-type,grpc-timeout,pitwall-vm,x-grpc-web,x-user-agent";

/** Headers of every answer to a page of this origin; none for a page that may not call. `*` among the origins is any. */
export function corsHeaders(origin: string | undefined, origins: readonly string[]): OutgoingHttpHeaders {
  if (origin === undefined || !isListed(origin, origins)) return {};
  return { "access-control-allow-origin": origin, "access-control-expose-headers": exposed, vary: "origin" };
}

/** Whether a WebSocket may be opened from there, for which browsers ask nobody: `own` is the gateway's own origin. Only pages have any. */
export function maySpeak(origin: string | undefined, own: string, origins: readonly string[]): boolean {
  return origin === undefined || origin === own || isListed(origin, origins);
}

function isListed(origin: string, origins: readonly string[]): boolean {
  return origins.includes("*") || origins.includes(origin);
}

/** Whether a page that may call asks that; `cors` are the headers for its origin. */
export function isPreflight(method: string | undefined, cors: OutgoingHttpHeaders): boolean {
  return method === "OPTIONS" && "access-control-allow-origin" in cors;
}

/** Of the answer to the question whether it may call. */
export const preflightHeaders: OutgoingHttpHeaders = {
  "access-control-allow-methods": "POST,GET",
  "access-control-allow-headers": allowed,
  "access-control-max-age": "7200",
};
