// The one place where a JWT is believed, and the form of API tokens.
export { digestOfApiToken, hasDigest, isApiToken, makeApiToken, parseApiToken, type ApiToken } from "./api-token.ts";
export { claimedSubject, openVerifier, type Verified, type Verifier } from "./verifier.ts";
