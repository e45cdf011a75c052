// The keys of one OIDC issuer: where they are, when they are asked for again, and for how long they count without an answer.
//
// none -> fresh (10 min) -> stale (to 1 h, while the issuer does not answer) -> none. A refresh that succeeds makes them fresh again; one that
// fails changes nothing. Whoever brings a token of a key that is not known may have them asked for, but so that nobody can make us a nuisance
// to the issuer; what is not known for want of an answer is refused as unavailable, what is known not to be there as not the issuer's.
import { lookup } from "node:dns/promises";
import { isLoopback, isPrivateAddress, literalAddress, PitwallError, type Clock } from "@pitwall/runtime";
import { createLocalJWKSet, errors, type JWTVerifyGetKey } from "jose";
import { z } from "zod";

const freshMs = 600_000;
/** From then on they are asked for anew, and nobody waits for it. */
const renewAfterMs = 300_000;
/** An issuer may be gone for so long before its tokens are refused. */
const staleMs = 3_600_000;
/** After a failure. While nothing is known each of many tokens would ask; while something is, there is no hurry. */
const retryUnknownMs = 2_000;
const retryKnownMs = 30_000;
/** For tokens of unknown keys: two at once, so that two changes in a row are seen without a refusal, and one in so many milliseconds thereafter. */
const unknownBurst = 2;
const unknownEveryMs = 30_000;
const answerLimitMs = 5_000;
const maxAnswerBytes = 1 << 20;

const discovery = z.object({ issuer: z.string(), jwks_uri: z.url() });
const keySet = z.object({ keys: z.array(z.looseObject({ kty: z.string() })).min(1, "it has no keys") });

export interface IssuerKeysParts {
  readonly issuer: string;
  /** Where they are; without it the issuer's discovery document says so. */
  readonly jwksUrl?: string | undefined;
  readonly clock: Pick<Clock, "monotonicMs">;
  /** Called when they are others than before. */
  readonly onChanged: () => void;
}

/** Nothing is fetched before the first use. */
export class IssuerKeys {
  readonly #parts: IssuerKeysParts;
  #keys: { readonly find: JWTVerifyGetKey; readonly text: string; readonly sinceMs: number } | undefined;
  #url: URL | undefined;
  #underway: Promise<void> | undefined;
  #failure: { readonly cause: unknown; readonly atMs: number } | undefined;
  /** How often they have come. */
  #fetched = 0;
  #version = 0;
  #unknownSpent = 0;
  #unknownAtMs = 0;

  constructor(parts: IssuerKeysParts) {
    this.#parts = parts;
  }

  /** For jose. Throws `unavailable` while they cannot be had, and JWKSNoMatchingKey for a token of none of them. */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    const before = this.#fetched;
    const known = await this.#current();
    try {
      return await known(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      const isNew = this.#fetched !== before; // they have come for this very token
      if (!isNew && this.#mayAskForUnknown()) await this.#refresh();
      if (this.#failure) throw this.#unreachable(this.#failure.cause); // it may be of a key that the issuer has made since
      return (await this.#current())(header, token);
    }
  };

  /** Goes up whenever they are others than before. */
  get version(): number {
    return this.#version;
  }

  /** Resolves when there are some that count, and what was verified with them. Throws `unavailable`. */
  async count(): Promise<void> {
    await this.#current();
  }

  async #current(): Promise<JWTVerifyGetKey> {
    const ageMs = this.#ageMs();
    const isDue = this.#failure === undefined || this.#parts.clock.monotonicMs() - this.#failure.atMs >= this.#retryMs();
    if (ageMs >= renewAfterMs && isDue) {
      const refreshed = this.#refresh();
      // An issuer that has not answered lately holds nobody up, unless nothing counts without its answer.
      if (ageMs >= staleMs || (ageMs >= freshMs && !this.#failure)) await refreshed;
    } else if (ageMs >= staleMs && this.#underway) await this.#underway;
    if (!this.#keys || this.#ageMs() >= staleMs) throw this.#unreachable(this.#failure?.cause);
    return this.#keys.find;
  }

  #ageMs(): number {
    return this.#keys ? this.#parts.clock.monotonicMs() - this.#keys.sinceMs : Infinity;
  }

  #retryMs(): number {
    return this.#ageMs() < staleMs ? retryKnownMs : retryUnknownMs;
  }

  #mayAskForUnknown(): boolean {
    if (this.#underway) return true; // it is being asked already
    const now = this.#parts.clock.monotonicMs();
    this.#unknownSpent = Math.max(0, this.#unknownSpent - (now - this.#unknownAtMs) / unknownEveryMs);
    this.#unknownAtMs = now;
    if (this.#unknownSpent > unknownBurst - 1) return false;
    this.#unknownSpent++;
    return true;
  }

  /** Never rejects: a failure is kept. */
  async #refresh(): Promise<void> {
    this.#underway ??= this.#fetchKeys().finally(() => {
      this.#underway = undefined;
    });
    await this.#underway;
  }

  async #fetchKeys(): Promise<void> {
    try {
      this.#url ??= await this.#discover();
      const set = keySet.parse(await fetchJson(this.#url));
      const text = JSON.stringify(set);
      if (text !== this.#keys?.text) {
        this.#version++;
        this.#parts.onChanged();
      }
      this.#keys = { find: createLocalJWKSet(set), text, sinceMs: this.#parts.clock.monotonicMs() };
      this.#failure = undefined;
      this.#fetched++;
    } catch (cause) {
      this.#url = undefined; // they may be elsewhere by now
      this.#failure = { cause, atMs: this.#parts.clock.monotonicMs() };
    }
  }

  async #discover(): Promise<URL> {
    const { issuer, jwksUrl } = this.#parts;
    if (jwksUrl !== undefined) return secured(new URL(jwksUrl));
    const document = discovery.parse(await fetchJson(new URL(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`)));
    if (document.issuer !== issuer) throw new Error("its discovery document names another issuer");
    const url = secured(new URL(document.jwks_uri));
    // The configuration names the issuer, and so says that its host may be ours. Of other hosts only the issuer does.
    if (url.hostname !== new URL(issuer).hostname) await requirePublic(url);
    return url;
  }

  #unreachable(cause: unknown): PitwallError {
    return new PitwallError("unavailable", `the keys of the issuer ${this.#parts.issuer} cannot be fetched; try again`, {
      reason: "ISSUER_UNREACHABLE",
      cause,
    });
  }
}

function secured(url: URL): URL {
  if (url.protocol !== "https:" && !isLoopback(url.hostname.replace(/^\[|\]$/g, ""))) throw new Error("its keys are not behind HTTPS");
  return url;
}

async function requirePublic(url: URL): Promise<void> {
  const literal = literalAddress(url);
  const addresses = literal === undefined ? (await lookup(url.hostname, { all: true })).map(({ address }) => address) : [literal];
  if (addresses.some(isPrivateAddress))
    throw new Error("its keys are at a private address of another host than its own: PITWALL_JWKS_URL may name them");
}

async function fetchJson(url: URL): Promise<unknown> {
  const response = await fetch(url, { redirect: "error", signal: AbortSignal.timeout(answerLimitMs) });
  if (!response.ok || !response.body) throw new Error(`status ${response.status}`);
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body) {
    bytes += chunk.length;
    if (bytes > maxAnswerBytes) throw new Error("its answer is too long");
    chunks.push(chunk);
  }
  return JSON.parse(Buffer.concat(chunks).toString());
}
