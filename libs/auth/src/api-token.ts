// API tokens as text: `pwt_ID_SECRET`. The ID finds the token's row; the secret, 256 bits, proves the right to use it.
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

const pattern = /^pwt_([0-9a-f]{16})_([A-Za-z0-9_-]{43})$/;

export interface ApiToken {
  /** 16 hex digits. */
  readonly id: string;
  /** The whole token; in logs and rows never. */
  readonly text: string;
}

export function makeApiToken(): ApiToken {
  const id = randomBytes(8).toString("hex");
  return { id, text: `pwt_${id}_${randomBytes(32).toString("base64url")}` };
}

/** Whether a header `authorization: Bearer …` holds what only a controller can judge. Such a credential is never read as a JWT. */
export function isApiToken(authorization: string | undefined): boolean {
  return /^Bearer pwt_/i.test(authorization ?? "");
}

/** The token in an `authorization` header; undefined for anything that is not exactly one. */
export function parseApiToken(authorization: string): ApiToken | undefined {
  const text = authorization.replace(/^Bearer /i, "");
  const id = pattern.exec(text)?.[1];
  return id === undefined ? undefined : { id, text };
}

/** Hex SHA-256, which is all that is stored. The secret is random, so that no slow hash is needed. */
export function digestOfApiToken({ text }: ApiToken): string {
  return createHash("sha256").update(text).digest("hex");
}

/** In the same time for every digest, also for a stored one that is none. */
export function hasDigest(token: ApiToken, stored: string): boolean {
  const expected = Buffer.alloc(32);
  Buffer.from(stored, "hex").copy(expected);
  const isEqual = timingSafeEqual(Buffer.from(digestOfApiToken(token), "hex"), expected);
  return isEqual && stored.length === 64;
}
