// Which pages may call: origins compared whole, and answers that name the one that asked.
import type { OutgoingHttpHeaders } from "node:http2";
import type { CallHeaders } from "./headers.ts";

const exposed = "grpc-status,grpc-message,grpc-status-details-bin";
const allowed = "authorization,content-type,grpc-timeout,pitwall-vm,x-grpc-web,x-user-agent";
/** What a preflight may ask for: names, as RFC 9110 section 5.6.2 has them. */
const names = /^[\w!#$%&'*+.^`|~-]+(?:\s*,\s*[\w!#$%&'*+.^`|~-]+)*$/;
const maxNamesBytes = 4_096;

/**
 * Headers of every answer: to a page of this origin, and that there are others to others, for caches between. `*` among the origins is any. No
 * `access-control-allow-credentials`, ever: cookies are nobody's token here.
 */
export function corsHeaders(origin: string | undefined, origins: readonly string[]): OutgoingHttpHeaders {
  if (origin === undefined || !isListed(origin, origins)) return { vary: "origin" };
  return { "access-control-allow-origin": origin, "access-control-expose-headers": exposed, vary: "origin" };
}

/** The same of an answer with metadata that a page is to read, whatever its names. */
export function exposing(cors: OutgoingHttpHeaders, metadata: CallHeaders): OutgoingHttpHeaders {
  if (!("access-control-allow-origin" in cors)) return cors;
  return { ...cors, "access-control-expose-headers": [exposed, ...Object.keys(metadata)].join(",") };
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

/** Of the answer to the question whether it may call. `asked` is what it asks to send, where it may send any metadata. */
export function preflightHeaders(asked: string | undefined): OutgoingHttpHeaders {
  const own = asked !== undefined && asked.length <= maxNamesBytes && names.test(asked) ? `${allowed},${asked.toLowerCase()}` : allowed;
  return { "access-control-allow-methods": "POST,GET", "access-control-allow-headers": own, "access-control-max-age": "7200" };
}
