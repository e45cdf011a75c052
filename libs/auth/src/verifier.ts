// Verifies access tokens of one OIDC issuer for one audience (RFC 8725, RFC 9068).
import { isLoopback, PitwallError, planted, systemClock, type Clock } from "@pitwall/runtime";
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, errors, jwtVerify, type JWTPayload, type JWTVerifyGetKey } from "jose";
import { z } from "zod";
import { isApiToken } from "./api-token.ts";

const algorithms = ["RS256", "PS256", "ES256", "EdDSA"];
const clockToleranceSeconds = 5;
const maxTokenBytes = 8192;
const discoveryLimitMs = 5_000;
/** A token that was good a moment ago is not verified again: that costs more than all else of many a call. */
const knownForMs = 10_000;
const maxKnown = 1_000;
const accessTypes: ReadonlySet<string> = new Set(["at+jwt", "application/at+jwt", "jwt"]);

export interface Verified {
  /** The `sub` claim: who it is, for as long as the issuer exists. */
  readonly subject: string;
  readonly expiresAt: Date;
  readonly claims: Readonly<JWTPayload>;
}

export interface Verifier {
  /**
   * `authorization` is the whole header, `Bearer …`. Throws `unauthenticated` with reason TOKEN_MISSING, TOKEN_EXPIRED, TOKEN_ISSUER,
   * TOKEN_AUDIENCE or TOKEN_INVALID, and `unavailable` (ISSUER_UNREACHABLE) when the issuer's keys cannot be had.
   */
  verify(authorization: string | undefined): Promise<Verified>;
}

const discovery = z.object({ issuer: z.string(), jwks_uri: z.url() });

/** Nothing is fetched before the first token. Plain HTTP is taken from issuers on this machine only. */
export function openVerifier(options: { issuer: string; audience: string; clock?: Pick<Clock, "monotonicMs" | "wallMs"> }): Verifier {
  const known = new KnownTokens(options.clock ?? systemClock);
  const issuer = options.issuer;
  let keys: Promise<JWTVerifyGetKey> | undefined;
  const keysOnce = (): Promise<JWTVerifyGetKey> => {
    keys ??= discover(issuer);
    keys.catch(() => {
      keys = undefined; // the next token tries again
    });
    return keys;
  };
  return {
    async verify(authorization) {
      if (isApiToken(authorization)) throw invalidToken("an API token is no JWT");
      const token = bearer(authorization);
      const verified = known.find(token);
      if (verified) return verified;
      try {
        const { payload } = await jwtVerify(token, await keysOnce(), {
          algorithms,
          issuer,
          audience: options.audience,
          clockTolerance: clockToleranceSeconds,
          requiredClaims: ["sub", "iat", "exp"],
        });
        requireAccessToken(token, payload);
        const { sub, exp } = payload;
        if (sub === undefined || sub === "" || exp === undefined) throw invalidToken("it names nobody");
        return known.add(token, { subject: sub, expiresAt: new Date(exp * 1000), claims: payload });
      } catch (error) {
        const refusal = translate(error, issuer, options.audience);
        if (planted("allow-without-keys") && refusal instanceof PitwallError && refusal.fault === "unavailable") {
          const claims = decodeJwt(token);
          return { subject: claims.sub ?? "", expiresAt: new Date((claims.exp ?? 0) * 1000), claims };
        }
        throw refusal;
      }
    },
  };
}

/** Tokens that were found to be good, each for a while and no longer than it is good. */
class KnownTokens {
  readonly #clock: Pick<Clock, "monotonicMs" | "wallMs">;
  /** The oldest first. */
  readonly #known = new Map<string, { readonly verified: Verified; readonly sinceMs: number }>();

  constructor(clock: Pick<Clock, "monotonicMs" | "wallMs">) {
    this.#clock = clock;
  }

  find(token: string): Verified | undefined {
    const known = this.#known.get(token);
    if (!known) return undefined;
    const { verified, sinceMs } = known;
    const isGood = verified.expiresAt.getTime() > this.#clock.wallMs() && this.#clock.monotonicMs() - sinceMs < knownForMs;
    if (!isGood) this.#known.delete(token);
    return isGood ? verified : undefined;
  }

  add(token: string, verified: Verified): Verified {
    this.#known.delete(token);
    this.#known.set(token, { verified, sinceMs: this.#clock.monotonicMs() });
    const [oldest] = this.#known.keys();
    if (this.#known.size > maxKnown && oldest !== undefined) this.#known.delete(oldest);
    return verified;
  }
}

/** Whose a JWT is by its own words, which must have been verified before; undefined for what is none. `authorization` as above. */
export function claimedSubject(authorization: string): string | undefined {
  try {
    return decodeJwt(bearer(authorization)).sub;
  } catch {
    return undefined;
  }
}

function bearer(authorization: string | undefined): string {
  const token = /^Bearer ([A-Za-z0-9._~+/=-]+)$/i.exec(authorization ?? "")?.[1];
  if (token === undefined) {
    throw new PitwallError("unauthenticated", "a bearer token is needed: send `authorization: Bearer TOKEN`, or run `pitwall login`", {
      reason: "TOKEN_MISSING",
    });
  }
  if (token.length > maxTokenBytes) throw invalidToken("it is too long");
  return token;
}

/** ID and refresh tokens are signed by the same keys and prove something else. */
function requireAccessToken(token: string, payload: JWTPayload): void {
  const { typ } = decodeProtectedHeader(token);
  if (typ !== undefined && !accessTypes.has(typ.toLowerCase())) throw invalidToken("it is not an access token");
  if ("nonce" in payload || "at_hash" in payload || "c_hash" in payload) throw invalidToken("it is an ID token, not an access token");
  const keycloakType = payload["typ"];
  if (keycloakType !== undefined && keycloakType !== "Bearer") throw invalidToken("it is not an access token");
}

async function discover(issuer: string): Promise<JWTVerifyGetKey> {
  try {
    const response = await fetch(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`, {
      redirect: "error",
      signal: AbortSignal.timeout(discoveryLimitMs),
    });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const document = discovery.parse(await response.json());
    if (document.issuer !== issuer) throw new Error("its discovery document names another issuer");
    const uri = new URL(document.jwks_uri);
    if (uri.protocol !== "https:" && !isLoopback(uri.hostname.replace(/^\[|\]$/g, ""))) throw new Error("its keys are not behind HTTPS");
    return createRemoteJWKSet(uri, { timeoutDuration: discoveryLimitMs, cooldownDuration: 5_000, cacheMaxAge: 600_000 });
  } catch (cause) {
    throw unreachable(issuer, cause);
  }
}

function translate(error: unknown, issuer: string, audience: string): unknown {
  if (error instanceof PitwallError) return error;
  if (error instanceof errors.JWTExpired)
    return new PitwallError("unauthenticated", "the token has expired: sign in again", { reason: "TOKEN_EXPIRED" });
  if (error instanceof errors.JWTClaimValidationFailed && error.claim === "iss")
    return new PitwallError("unauthenticated", "the token is of another issuer", { reason: "TOKEN_ISSUER" });
  if (error instanceof errors.JWTClaimValidationFailed && error.claim === "aud") {
    return new PitwallError("unauthenticated", `the token is not for the audience ${JSON.stringify(audience)}`, {
      reason: "TOKEN_AUDIENCE",
    });
  }
  if (error instanceof errors.JWKSTimeout) return unreachable(issuer, error);
  if (error instanceof errors.JWKSNoMatchingKey)
    return new PitwallError("unauthenticated", "the token is not signed by the issuer's keys", { reason: "TOKEN_ISSUER" });
  if (error instanceof errors.JOSEError && error.code !== "ERR_JOSE_GENERIC")
    return invalidToken("it is damaged, or not signed by the issuer", error);
  return unreachable(issuer, error);
}

function invalidToken(why: string, cause?: unknown): PitwallError {
  return new PitwallError("unauthenticated", `the token is not valid: ${why}`, { reason: "TOKEN_INVALID", cause });
}

function unreachable(issuer: string, cause: unknown): PitwallError {
  return new PitwallError("unavailable", `the keys of the issuer ${issuer} cannot be fetched; try again`, {
    reason: "ISSUER_UNREACHABLE",
    cause,
  });
}
