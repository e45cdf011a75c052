// The gateway's address: how people write it, and which one a command means.
import { CliError, usageError } from "../failure.ts";

/** True for host names that only this machine answers to. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || hostname === "::1" || /^127(\.\d{1,3}){3}$/.test(hostname);
}

/** `https://host[:port]` from a URL or from `host[:port]`, which means http on loopback and https elsewhere. Throws a usage error. */
export function parseEndpoint(text: string): string {
  const trimmed = text.trim();
  const host = trimmed.split(/[/?#]/)[0]?.replace(/:\d+$/, "") ?? "";
  const url = parseUrl(trimmed.includes("://") ? trimmed : `${isLoopback(host) ? "http" : "https"}://${trimmed}`);
  if (!url || (url.protocol !== "http:" && url.protocol !== "https:") || url.hostname === "") {
    throw usageError(`${JSON.stringify(text)} is no address of a gateway: expected one such as https://pitwall.example.com`);
  }
  if (url.username !== "" || (url.pathname !== "/" && url.pathname !== "") || url.search !== "" || url.hash !== "") {
    throw usageError(`${JSON.stringify(text)}: an endpoint is scheme, host and port alone: ${url.origin}`);
  }
  return url.origin;
}

function parseUrl(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined;
}

/** The flag's endpoint, else PITWALL_ENDPOINT, else the one signed in to last. Throws when there is none. */
export function chooseEndpoint(flag: string | undefined, variable: string | undefined, current: string | undefined): string {
  const chosen = flag ?? (variable === "" ? undefined : variable);
  if (chosen !== undefined) return parseEndpoint(chosen);
  if (current !== undefined) return current;
  throw new CliError("no gateway is known yet: sign in with `pitwall login URL`, or set PITWALL_ENDPOINT and PITWALL_TOKEN");
}
