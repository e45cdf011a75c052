// Headers of requests into VMs, and of what comes back: those of one connection end at the gateway, who came and how is said by the gateway
// alone, and what a VM answers below the gateway's own address cannot speak in the gateway's name. On its own host a VM says what it likes.
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders } from "node:http";
import { Http2ServerRequest } from "node:http2";
import { plain } from "../source.ts";
import { keptByBrowsers } from "./headers.ts";
import { cookiesIn, cookiesOut, grantIn } from "./ingress-credential.ts";

/** On either version of HTTP. */
export type IngressRequest = IncomingMessage | Http2ServerRequest;

/** RFC 9110 section 7.6.1, and what is said to a proxy. */
const hopByHop: ReadonlySet<string> = new Set([
  ...["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "proxy-authentication-info"],
  ...["te", "trailer", "transfer-encoding", "upgrade", "http2-settings", "expect"],
]);
/** The gateway says itself how long a body is, and whom it takes somebody for. */
const saidHere = /^(?::|content-length$|host$|forwarded$|x-forwarded-|x-real-ip$)/;
/** What a browser would take for the gateway's own word: a page below /vm/ has the gateway's origin. */
const ofTheOrigin = /^(?:set-cookie2?$|service-worker-allowed$|access-control-)/;
/** What may be cleared of one origin alone; cookies are cleared of all hosts below the domain, and above. */
const clearable: ReadonlySet<string> = new Set(['"cache"', '"storage"']);

/** How a request came to the gateway. */
export interface Came {
  readonly address: string | undefined;
  readonly isSecure: boolean;
  /** What stood before the path that the VM sees; undefined on the VM's own host. */
  readonly prefix: string | undefined;
  /** Whether the request's `authorization` is for the VM. */
  readonly isAuthorizationTheirs: boolean;
}

/** Whom a request is for. On HTTP/2 `host` is not what counts. */
export function authorityOf(headers: IncomingHttpHeaders): string {
  return String(headers[":authority"] ?? headers.host ?? "");
}

/** What a request says to the VM, without its framing. */
export function headersIn(headers: IncomingHttpHeaders, { address, isSecure, prefix, isAuthorizationTheirs }: Came): OutgoingHttpHeaders {
  const host = authorityOf(headers);
  const { cookie: _, authorization, referer, ...rest } = endToEnd(headers);
  for (const name of Object.keys(rest)) if (saidHere.test(name)) delete rest[name];
  // Cookies of the gateway's own address are none of the VM's business.
  const cookie = prefix === undefined ? cookiesIn(headers) : undefined;
  return {
    ...rest,
    host,
    ...(cookie !== undefined && { cookie }),
    // Of the answer to a form, say, whose address has a grant: browsers tell a page's own host all of its address.
    ...(headers.referer !== undefined && referer !== undefined && { referer: grantIn(headers.referer)?.rest ?? headers.referer }),
    ...(isAuthorizationTheirs && authorization !== undefined && { authorization }),
    ...(address !== undefined && { "x-forwarded-for": plain(address) }),
    "x-forwarded-proto": isSecure ? "https" : "http",
    "x-forwarded-host": host,
    ...(prefix !== undefined && { "x-forwarded-prefix": prefix }),
  };
}

/**
 * Its body's length, or that it comes in chunks. Node sends the body of a GET without either, unless it is told, and the VM would take it
 * for the next request.
 */
export function framingOf(request: IngressRequest): OutgoingHttpHeaders {
  const { "content-length": length, "transfer-encoding": encoding } = request.headers;
  if (request instanceof Http2ServerRequest ? length === undefined && !request.stream.endAfterHeaders : encoding !== undefined)
    return { "transfer-encoding": "chunked" };
  return length === undefined ? {} : { "content-length": length };
}

/** What a VM's answer says on its own host: what it likes, but for itself alone. `isForAll`: also to who shows nothing. */
export function headersOutOnOwnHost(headers: IncomingHttpHeaders, isForAll: boolean): OutgoingHttpHeaders {
  const { "alt-svc": _, "set-cookie": lines = [], "clear-site-data": cleared, ...rest } = endToEnd(headers);
  const clears = String(cleared ?? "")
    .split(/\s*,\s*/)
    .filter((what) => clearable.has(what.trim().toLowerCase()));
  const kept = cookiesOut(lines as readonly string[]); // Node has a list of it
  return {
    ...rest,
    ...(kept.length > 0 && { "set-cookie": kept }),
    ...(clears.length > 0 && { "clear-site-data": clears.join(", ") }),
    ...(!isForAll && { "cache-control": privateOnly(headers["cache-control"]) }),
  };
}

/** The VM may not know that somebody was let in, and what stands before the gateway may keep what is for them for others. */
function privateOnly(said: string | undefined): string {
  const kept = (said ?? "").split(",").filter((part) => !/^\s*(?:public|s-maxage\s*=.*|private.*|)\s*$/i.test(part));
  return [...kept.map((part) => part.trim()), "private"].join(", ");
}

/** The same below the gateway's address. Scripts of a page do not run, and it has no origin, wherever a browser comes to show it. */
export function headersOut(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  const rest = endToEnd(headers);
  for (const name of Object.keys(rest)) if (ofTheOrigin.test(name) || keptByBrowsers.has(name)) delete rest[name];
  const policy = headers["content-security-policy"];
  return {
    ...rest,
    "content-security-policy": policy === undefined ? "sandbox" : `${String(policy)}, sandbox`,
    "x-content-type-options": "nosniff",
  };
}

function endToEnd(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  const named = (headers.connection ?? "").toLowerCase().split(/\s*,\s*/);
  return Object.fromEntries(
    Object.entries(headers).filter(([name, value]) => value !== undefined && !hopByHop.has(name) && !named.includes(name)),
  );
}
