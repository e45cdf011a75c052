// The one place where a JWT is believed.
export { openVerifier, type Verified, type Verifier } from "./verifier.ts";
