// HTTPS as registries need it: guarded addresses, redirects that lose credentials, and patience with servers that are busy.
import { IncomingMessage, type IncomingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import { backoff, isPrivateAddress, literalAddress, PitwallError, type Clock } from "@pitwall/runtime";
import { openHttpClient, type HttpClient, type HttpRequest } from "./http-client.ts";

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

const maxRedirects = 5;
const maxTries = 4;
const firstWaitMs = 250;
const longestWaitMs = 60_000;
const busy: ReadonlySet<number> = new Set([429, 500, 502, 503, 504]);
const passing: ReadonlySet<string> = new Set(["ECONNRESET", "ECONNREFUSED", "EPIPE", "ETIMEDOUT", "EAI_AGAIN"]);

export class Transport {
  readonly #options: TransportOptions;
  readonly #client: HttpClient;

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#client = openHttpClient({ certificates: options.certificates, refused: refusedAddress });
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
    return this.#ask(url, { method, headers, body, signal });
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

  async #ask(url: URL, request: Omit<HttpRequest, "isGuarded">): Promise<Reply> {
    const answer = await this.#client.request(url, { ...request, isGuarded: this.#isGuarded(url) });
    return { status: answer.statusCode ?? 0, headers: answer.headers, body: answer, host: url.host };
  }

  async #follow(url: URL, { headers, form, method = "GET" }: Ask, signal: AbortSignal): Promise<Reply> {
    let target = url;
    let sent: Readonly<Record<string, string>> = headers;
    for (let hop = 0; hop <= maxRedirects; hop++) {
      const isForm = form !== undefined && hop === 0;
      const reply = await this.#ask(target, {
        method: isForm ? "POST" : method,
        headers: { ...sent, ...(isForm && { "content-type": "application/x-www-form-urlencoded" }) },
        body: isForm ? form.toString() : undefined,
        signal,
      });
      const location = reply.status >= 300 && reply.status < 400 ? reply.headers["location"] : undefined;
      if (typeof location !== "string") return reply;
      drop(reply);
      if (!URL.canParse(location, target)) throw unreachable(url.host, new Error("it redirects to no address"));
      const next = new URL(location, target);
      if (next.host !== target.host || next.protocol !== target.protocol) sent = withoutCredentials(sent);
      target = next;
    }
    throw unreachable(url.host, new Error("it redirects too often"));
  }

  /** Whether only a public address will do. Throws where an address or scheme is not allowed. */
  #isGuarded(target: URL): boolean {
    const { insecureHosts, privateHosts } = this.#options;
    if (target.protocol === "http:" && insecureHosts.has(target.host)) return false;
    if (target.protocol !== "https:")
      throw unreachable(target.host, new Error("plain HTTP is not allowed; an administrator can allow it in PITWALL_INSECURE_REGISTRIES"));
    if (privateHosts.has(target.host)) return false;
    const address = literalAddress(target);
    if (address !== undefined && isPrivateAddress(address)) throw refusedAddress(target.host);
    return true;
  }
}

/** Gives up on a body that nobody wants. One that is here already costs less to read than a new connection. */
export function drop({ body }: Pick<Reply, "body">): void {
  if (body instanceof IncomingMessage && body.complete) body.resume();
  else body.destroy();
}

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
