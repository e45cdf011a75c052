// Which headers go through, in each direction.
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http2";

/** Headers by lower-case name; of a header that came several times, all its values. */
export type CallHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** Of the connection, of the browser, or of our own making: never forwarded. */
const dropped: ReadonlySet<string> = new Set([
  ...["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings", "host", "te", "trailer", "expect"],
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
    "forwarded",
  ],
  "pitwall-peer-internal",
]);
const droppedPrefixes = [":", "sec-", "proxy-", "x-forwarded-"];

/**
 * Node joins repeated headers with commas; metadata keeps the values apart. Of headers that may come only once Node keeps the first, and so
 * does this. `raw` has names and values in turn.
 */
export function callHeaders(headers: IncomingHttpHeaders, raw: readonly string[] | undefined): CallHeaders {
  if (raw === undefined || raw.length === 2 * Object.keys(headers).length) return headers; // none is there twice
  const values = new Map<string, string[]>();
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = (raw[at] ?? "").toLowerCase();
    values.set(name, [...(values.get(name) ?? []), raw[at + 1] ?? ""]);
  }
  const apart = [...values].flatMap(([name, all]) => (all.length > 1 && headers[name] !== all[0] ? [[name, all] as const] : []));
  return { ...headers, ...Object.fromEntries(apart) };
}

/** What follows the media type: `+proto`, or nothing. Of gRPC and of gRPC-Web. */
export function codecOf(contentType: unknown): string {
  return /^application\/grpc(?:-web(?:-text)?)?(\+[\w.-]+)?/i.exec(String(contentType))?.[1] ?? "";
}

/** Call metadata and gRPC's own headers, as the upstream call's headers. What follows the `+` of the content type stays. */
export function upstreamHeaders(path: string, incoming: CallHeaders): OutgoingHttpHeaders {
  const contentType = `application/grpc${codecOf(incoming["content-type"])}`;
  const headers: OutgoingHttpHeaders = { ":method": "POST", ":path": path, "content-type": contentType, te: "trailers" };
  const ofConnection = String(incoming["connection"] ?? "")
    .toLowerCase()
    .split(/\s*,\s*/);
  for (const [name, value] of Object.entries(incoming)) {
    if (value === undefined || dropped.has(name) || ofConnection.includes(name)) continue;
    if (!droppedPrefixes.some((prefix) => name.startsWith(prefix))) headers[name] = value;
  }
  return headers;
}

/** What headers take, names and values in turn. */
export function headerBytes(raw: readonly string[]): number {
  return raw.reduce((sum, part) => sum + part.length, 0);
}

/** What a browser keeps of an answer for the origin's later ones: where it reports errors to, what it sends, that somebody is signed in. */
export const keptByBrowsers: ReadonlySet<string> = new Set([
  ...["nel", "report-to", "reporting-endpoints", "accept-ch", "critical-ch", "set-login", "use-as-dictionary"],
  ...["alt-svc", "clear-site-data", "strict-transport-security"],
]);

/** Of the upstream's connection, and what would speak to a browser in the gateway's name: an upstream may be a VM. */
const notDown: ReadonlySet<string> = new Set([
  ...["content-type", "content-length", "content-encoding", "date", "connection", "transfer-encoding", "trailer", "keep-alive", "upgrade"],
  ...["proxy-connection", "http2-settings", "te"], // Node throws when it is to send them on HTTP/2
  ...["set-cookie", "set-cookie2", "location", "refresh"],
  ...keptByBrowsers,
]);

/** Response metadata. */
export function responseHeaders(upstream: CallHeaders): CallHeaders {
  const isMetadata = (name: string): boolean => !name.startsWith(":") && !name.startsWith("access-control-") && !notDown.has(name);
  return Object.fromEntries(Object.entries(upstream).filter(([name]) => isMetadata(name)));
}

/** One line for each value, without pseudo-headers. */
export function headerLines(headers: CallHeaders): Buffer {
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    name.startsWith(":") || value === undefined ? [] : [value].flat().map((one) => `${name}: ${one}\r\n`),
  );
  return Buffer.from(lines.join(""), "latin1");
}
