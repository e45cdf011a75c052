// Who somebody is who comes to a VM's own host name: a bearer token, a grant in a cookie of that host, or nobody. What is not for the gateway is
// the VM's own, and stays in the request.
import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { claimedExpiry } from "@pitwall/auth";
import type { Caller } from "@pitwall/proto/pitwall/v1/access.ts";
import { sourceOf } from "../source.ts";
import type { Door } from "./door.ts";
import { isPitwalls } from "./token-owner.ts";

/** `__Host-`: browsers take it from this very host alone, with TLS, so no other VM below the domain can plant one. */
const cookieName = "__Host-pitwall-grant";
const parameter = "pitwall-grant";

export interface IngressCaller {
  readonly caller: Caller;
  /** Whose limits it counts to. */
  readonly principal: string;
  /** Whether the request's `authorization` is the VM's to see. */
  readonly isAuthorizationTheirs: boolean;
}

export interface IngressVisit {
  readonly method: string;
  readonly headers: IncomingHttpHeaders;
  /** What pages of the VM's own host have, such as `https://web.vms.example.com`. */
  readonly origins: readonly string[];
  /** Of Pitwall's own JWTs. */
  readonly issuer: string;
  /** Of the VM, and the client's address, for who is nobody. */
  readonly host: string;
  readonly address: string | undefined;
}

/** Throws what the {@link Door} throws for a token that may be Pitwall's and is not good, or cannot be verified now. */
export async function ingressCaller(door: Door, visit: IngressVisit): Promise<IngressCaller> {
  const { authorization } = visit.headers;
  if (authorization !== undefined && isPitwalls(authorization, visit.issuer)) {
    const { credential: value, principal } = await door(authorization);
    return { caller: { credential: { $case: "bearerToken", value } }, principal, isAuthorizationTheirs: false };
  }
  const grant = mayUseCookie(visit) ? cookies(visit.headers).find(([name]) => name === cookieName)?.[1] : undefined;
  if (grant !== undefined) return { caller: grantCaller(grant), principal: grantPrincipal(grant), isAuthorizationTheirs: true };
  // One who takes all that somebody may leaves it to those from elsewhere.
  const principal = `public ${visit.host} ${sourceOf(visit.address ?? "")}`;
  return { caller: { credential: { $case: "anonymous", value: {} } }, principal, isAuthorizationTheirs: true };
}

export function grantCaller(grant: string): Caller {
  return { credential: { $case: "ingressGrant", value: grant } };
}

/** Not by its words: whoever makes some up counts to nobody else. */
export function grantPrincipal(grant: string): string {
  return `grant ${createHash("sha256").update(grant).digest("base64url")}`;
}

/**
 * Browsers call all VMs below the domain one site, so SameSite does not keep a page of one from asking another in its visitor's name: that it
 * is the same origin does, or that a person has followed a link. What browsers say of the site no page can make up, and of a page that hides
 * its address it is all that is known (`Origin: null`); of WebSockets, and where they say nothing, the origin is.
 */
function mayUseCookie({ method, headers, origins }: IngressVisit): boolean {
  const { origin, upgrade, "sec-fetch-site": from } = headers;
  if ((from === undefined || upgrade !== undefined) && origin !== undefined && !origins.includes(origin)) return false;
  if (from === undefined || from === "same-origin" || from === "none") return true;
  return (method === "GET" || method === "HEAD") && headers["sec-fetch-mode"] === "navigate" && headers["sec-fetch-dest"] === "document";
}

/** The request's cookies without the gateway's own; undefined: none are left. */
export function cookiesIn(headers: IncomingHttpHeaders): string | undefined {
  const theirs = cookies(headers).filter(([name]) => name !== cookieName);
  return theirs.length === 0 ? undefined : theirs.map(([name, value]) => (value === undefined ? name : `${name}=${value}`)).join("; ");
}

/** Those that a VM sets, for its own host alone: it must neither plant the gateway's, nor any of another VM's. */
export function cookiesOut(lines: readonly string[]): string[] {
  return lines.flatMap((line) => {
    const [pair = "", ...attributes] = line.split(";");
    if (pair.split("=", 1)[0]?.trim().toLowerCase() === cookieName.toLowerCase()) return [];
    return [[pair, ...attributes.filter((attribute) => !/^\s*domain\s*(?:=|$)/i.test(attribute))].join(";")];
  });
}

function cookies({ cookie = "" }: IncomingHttpHeaders): [name: string, value: string | undefined][] {
  return cookie
    .split(";")
    .map((pair) => pair.trim())
    .filter((pair) => pair !== "")
    .map((pair) => {
      const at = pair.indexOf("=");
      return at < 0 ? [pair, undefined] : [pair.slice(0, at), pair.slice(at + 1)];
    });
}

/** The grant in a URL's query, which may be none, and the URL without it; undefined: there is none. */
export function grantIn(url: string): { readonly grant: string; readonly rest: string } | undefined {
  const at = url.indexOf("?");
  if (at < 0) return undefined;
  const pairs = url.slice(at + 1).split("&");
  const found = pairs.find((pair) => pair.startsWith(`${parameter}=`));
  if (found === undefined) return undefined;
  const others = pairs.filter((pair) => pair !== parameter && !pair.startsWith(`${parameter}=`));
  // One slash, or a browser takes what follows for another host.
  const path = url.slice(0, at).replace(/^\/[/\\]+/, "/");
  return { grant: found.slice(parameter.length + 1), rest: others.length === 0 ? path : `${path}?${others.join("&")}` };
}

/** The cookie that holds a grant, for as long as it is good. Lax, because people come by links from elsewhere. Undefined for what is no grant. */
export function grantCookie(grant: string, nowSeconds: number): string | undefined {
  const expiresAt = claimedExpiry(grant);
  if (expiresAt === undefined) return undefined; // such a text might have attributes of its own
  const left = Math.max(0, Math.floor(expiresAt - nowSeconds));
  return `${cookieName}=${grant}; Path=/; Max-Age=${left}; Secure; HttpOnly; SameSite=Lax`;
}
