// Verifies access tokens of one OIDC issuer for one audience (RFC 8725, RFC 9068).
import { PitwallError, planted, systemClock, type Clock } from "@pitwall/runtime";
import { decodeJwt, decodeProtectedHeader, errors, jwtVerify, type JWTPayload } from "jose";
import { isApiToken } from "./api-token.ts";
import { IssuerKeys } from "./issuer-keys.ts";
import { KnownTokens } from "./known-tokens.ts";

/** All with a public key: whoever can verify cannot sign. */
export const tokenAlgorithms = ["RS256", "PS256", "ES256", "EdDSA"] as const;
export type TokenAlgorithm = (typeof tokenAlgorithms)[number];

const clockToleranceSeconds = 5;
const maxTokenBytes = 8192;
const dayMs = 86_400_000;
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

export interface VerifierOptions {
  readonly issuer: string;
  readonly audience: string;
  /** Where the issuer's keys are; default: where its discovery document says. */
  readonly jwksUrl?: string | undefined;
  /** Of those that {@link tokenAlgorithms} names, the ones that this issuer signs with; default: all. */
  readonly algorithms?: readonly TokenAlgorithm[] | undefined;
  /** Clients (`azp`, or `client_id`) whose tokens count; default: any of the issuer's. */
  readonly clients?: readonly string[] | undefined;
  /** How long ago a token may have been issued, however long it is good. Default: a day. */
  readonly maxAgeMs?: number | undefined;
  readonly clock?: Pick<Clock, "monotonicMs" | "wallMs">;
}

/** Nothing is fetched before the first token. Plain HTTP is taken from issuers on this machine only. */
export function openVerifier(options: VerifierOptions): Verifier {
  const { issuer, audience, jwksUrl, algorithms = tokenAlgorithms, clients = [], maxAgeMs = dayMs, clock = systemClock } = options;
  const known = new KnownTokens<Verified>(clock);
  const keys = new IssuerKeys({ issuer, jwksUrl, clock, onChanged: () => known.forgetAll() });

  /** Throws what {@link translate} takes. */
  async function verified(token: string): Promise<Verified> {
    const { version } = keys;
    const found = known.find(token);
    if (found) {
      await keys.count();
      if (keys.version === version) return found;
    }
    const { payload } = await jwtVerify(token, keys.find, {
      algorithms: [...algorithms],
      issuer,
      audience,
      clockTolerance: clockToleranceSeconds,
      currentDate: new Date(clock.wallMs()),
      maxTokenAge: maxAgeMs / 1000,
      requiredClaims: ["sub", "iat", "exp"],
    });
    requireAccessToken(token, payload);
    requireClient(payload, clients);
    const { sub, exp } = payload;
    if (sub === undefined || sub === "" || exp === undefined) throw invalidToken("it names nobody");
    const good = { subject: sub, expiresAt: new Date(exp * 1000), claims: payload };
    // Else it may be of one that has just been taken away.
    if (keys.version === version || version === 0) known.add(token, good);
    return good;
  }

  return {
    async verify(authorization) {
      if (isApiToken(authorization)) throw invalidToken("an API token is no JWT");
      const token = bearer(authorization);
      try {
        return await verified(token);
      } catch (error) {
        const refusal = translate(error, audience);
        if (planted("allow-without-keys") && refusal instanceof PitwallError && refusal.fault === "unavailable") {
          const claims = decodeJwt(token);
          return { subject: claims.sub ?? "", expiresAt: new Date((claims.exp ?? 0) * 1000), claims };
        }
        throw refusal;
      }
    },
  };
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

/** Two applications may share an issuer and an audience, and only one of them be meant. */
function requireClient({ azp, client_id: clientId }: JWTPayload, clients: readonly string[]): void {
  const client = azp ?? clientId;
  if (clients.length > 0 && (typeof client !== "string" || !clients.includes(client)))
    throw invalidToken("it was made for a client that may not call here");
}

function translate(error: unknown, audience: string): unknown {
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
  if (error instanceof errors.JWKSNoMatchingKey)
    return new PitwallError("unauthenticated", "the token is not signed by the issuer's keys", { reason: "TOKEN_ISSUER" });
  return error instanceof errors.JOSEError ? invalidToken("it is damaged, or not signed by the issuer", error) : error;
}

function invalidToken(why: string, cause?: unknown): PitwallError {
  return new PitwallError("unauthenticated", `the token is not valid: ${why}`, { reason: "TOKEN_INVALID", cause });
}
