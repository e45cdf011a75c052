// HTTPS as registries need it: guarded addresses, redirects that lose credentials, and patience with servers that are busy.
import { lookup } from "node:dns";
import type { IncomingHttpHeaders } from "node:http";
import { rootCertificates } from "node:tls";
import type { Readable } from "node:stream";
import { backoff, PitwallError, type Clock } from "@pitwall/runtime";
import type { Agent, request } from "undici";
import { isPrivateAddress, literalAddress } from "./addresses.ts";

export type Hosts = Pick<ReadonlySet<string>, "has">;

export interface TransportOptions {
  /** `host:port` that may be on a private address and are spoken to over plain HTTP. */
  readonly insecureHosts: Hosts;
  /** `host:port` that may be on a private address, over HTTPS. */
  readonly privateHosts: Hosts;
  /** Certificate authorities in PEM, besides those that Node knows. */
  readonly certificates: string | undefined;
  readonly clock: Clock;
}

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** To be read to its end or dropped with {@link drop}. */
  readonly body: Readable;
  /** `host` or `host:port` that answered, after redirects. */
  readonly host: string;
}

export interface Ask {
  readonly headers: Readonly<Record<string, string>>;
  /** A form to POST. Sent nowhere but to the first host. */
  readonly form?: URLSearchParams;
  /** Without a form; GET is the default. */
  readonly method?: "GET" | "HEAD";
}

/** A request that changes something, or asks how far such a change has come. */
export interface Change {
  readonly method: "GET" | "PATCH" | "POST" | "PUT";
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Readable | Buffer | undefined;
}

const connectMs = 10_000;
const silenceMs = 60_000;
const maxRedirects = 5;
const maxTries = 4;
const firstWaitMs = 250;
const longestWaitMs = 60_000;
const busy: ReadonlySet<number> = new Set([429, 500, 502, 503, 504]);
const passing: ReadonlySet<string> = new Set([
  "ECONNRESET",
  "ECONNREFUSED",
  "EPIPE",
  "ETIMEDOUT",
  "EAI_AGAIN",
  "UND_ERR_SOCKET",
  "UND_ERR_CONNECT_TIMEOUT",
]);

interface Client {
  readonly request: typeof request;
  /** Connects to public addresses alone. */
  readonly guarded: Agent;
  readonly trusting: Agent;
}

export class Transport {
  readonly #options: TransportOptions;
  #client: Promise<Client> | undefined;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  /** `https`, or `http` for the hosts that an administrator named. */
  schemeOf(host: string): "http" | "https" {
    return this.#options.insecureHosts.has(host) ? "http" : "https";
  }

  /** The answer, whatever its status, after redirects. Throws `invalid` for addresses that are not allowed, and as {@link patiently} does. */
  async get(url: URL, ask: Ask, signal: AbortSignal): Promise<Reply> {
    return this.patiently(url.host, () => this.#follow(url, ask, signal), signal);
  }

  /** The answer to one request, which is not repeated; no redirect is followed. What it throws is for {@link patiently}. */
  async send(url: URL, { method, headers, body }: Change, signal: AbortSignal): Promise<Reply> {
    const client = await this.#open();
    const {
      statusCode,
      headers: got,
      ...answer
    } = await client.request(url, {
      dispatcher: client[this.#trustIn(url)],
      method,
      headers,
      signal,
      ...(body && { body }),
    });
    answer.body.on("error", () => undefined); // told to who reads it
    return { status: statusCode, headers: got, body: answer.body, host: url.host };
  }

  /**
   * The answer to an attempt, whatever its status, of up to four: a busy or unreachable server is asked again after the time it wants
   * (at most a minute) or a random one that doubles. Throws `unavailable`.
   */
  async patiently<R extends Reply>(host: string, attempt: () => Promise<R>, signal: AbortSignal): Promise<R> {
    const waits = backoff(firstWaitMs, longestWaitMs);
    for (let tries = 1; ; tries++) {
      let wait = waits.nextMs();
      try {
        const reply = await attempt();
        if (!busy.has(reply.status) || tries === maxTries) return reply;
        drop(reply);
        wait = retryAfterMs(reply.headers["retry-after"], this.#options.clock.wallMs()) ?? wait;
        if (wait > longestWaitMs)
          throw new PitwallError("unavailable", `the registry ${host} asks to come back in ${Math.ceil(wait / 1000)} s`, {
            reason: "REGISTRY_BUSY",
          });
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof PitwallError) throw error;
        if (!passing.has(codeOf(error)) || tries === maxTries) throw unreachable(host, error);
      }
      await this.#options.clock.sleep(wait, signal);
    }
  }

  #open(): Promise<Client> {
    this.#client ??= openClient(this.#options.certificates);
    return this.#client;
  }

  async #follow(url: URL, { headers, form, method = "GET" }: Ask, signal: AbortSignal): Promise<Reply> {
    let target = url;
    let sent: Readonly<Record<string, string>> = headers;
    const client = await this.#open();
    for (let hop = 0; hop <= maxRedirects; hop++) {
      const isForm = form !== undefined && hop === 0;
      const {
        statusCode,
        headers: got,
        body,
      } = await client.request(target, {
        dispatcher: client[this.#trustIn(target)],
        method: isForm ? "POST" : method,
        headers: { ...sent, ...(isForm && { "content-type": "application/x-www-form-urlencoded" }) },
        signal,
        ...(isForm && { body: form.toString() }),
      });
      body.on("error", () => undefined); // told to who reads it
      const reply = { status: statusCode, headers: got, body, host: target.host };
      const location = statusCode >= 300 && statusCode < 400 ? got["location"] : undefined;
      if (typeof location !== "string") return reply;
      drop(reply);
      if (!URL.canParse(location, target)) throw unreachable(url.host, new Error("it redirects to no address"));
      const next = new URL(location, target);
      if (next.host !== target.host || next.protocol !== target.protocol) sent = withoutCredentials(sent);
      target = next;
    }
    throw unreachable(url.host, new Error("it redirects too often"));
  }

  /** Throws where an address or scheme is not allowed. */
  #trustIn(target: URL): "guarded" | "trusting" {
    const { insecureHosts, privateHosts } = this.#options;
    if (target.protocol === "http:" && insecureHosts.has(target.host)) return "trusting";
    if (target.protocol !== "https:")
      throw unreachable(target.host, new Error("plain HTTP is not allowed; an administrator can allow it in PITWALL_INSECURE_REGISTRIES"));
    if (privateHosts.has(target.host)) return "trusting";
    const address = literalAddress(target);
    if (address !== undefined && isPrivateAddress(address)) throw refusedAddress(target.host);
    return "guarded";
  }
}

/** The HTTP library is loaded when the first registry is asked: layouts and archives need none of its 20 MB. */
async function openClient(certificates: string | undefined): Promise<Client> {
  const undici = await import("undici");
  const common = { headersTimeout: silenceMs, bodyTimeout: silenceMs };
  const connect = { timeout: connectMs, ...(certificates !== undefined && { ca: [...rootCertificates, certificates] }) };
  // The address is judged where the connection is made, so that a name cannot answer differently the second time.
  const guarded = new undici.Agent({ ...common, connect: { ...connect, lookup: guardedLookup } });
  return { request: undici.request, guarded, trusting: new undici.Agent({ ...common, connect }) };
}

/** Gives up on a body that nobody wants. */
export function drop({ body }: Pick<Reply, "body">): void {
  body.destroy();
}

const guardedLookup: typeof lookup = ((
  hostname: string,
  options: object,
  callback: (error: Error | null, found: { address: string; family: number }[]) => void,
) => {
  lookup(hostname, { ...options, all: true }, (error, found) => {
    const open = error ? [] : found.filter(({ address }) => !isPrivateAddress(address));
    callback(error ?? (open.length === 0 ? refusedAddress(hostname) : null), open);
  });
}) as typeof lookup; // undici asks with `all`, which is the one form that is answered here

function withoutCredentials(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name.toLowerCase() !== "authorization"));
}

/** `Retry-After` is seconds or a date (RFC 9110 section 10.2.3). */
export function retryAfterMs(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1000;
  const date = header.endsWith(" GMT") ? Date.parse(header) : Number.NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

export function unreachable(host: string, cause: unknown): PitwallError {
  return new PitwallError("unavailable", `the registry ${host} cannot be reached: ${reasonOf(cause)}`, {
    reason: "REGISTRY_UNREACHABLE",
    cause,
  });
}

/** The refusal of a server that stays busy. */
export function slowDown(host: string): PitwallError {
  return new PitwallError("unavailable", `the registry ${host} asks to slow down; try again later`, { reason: "REGISTRY_BUSY" });
}

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  return error.message === "" ? codeOf(error) : error.message;
}

const codeOf = (error: unknown): string => (error instanceof Error && "code" in error ? String(error.code) : "");

function refusedAddress(host: string): PitwallError {
  const message = `image: ${host} is on a private network; an administrator can allow it in PITWALL_PRIVATE_REGISTRIES`;
  return new PitwallError("invalid", message, { reason: "REGISTRY_NOT_ALLOWED", field: "image" });
}
