// Who gets past the gateway: a JWT that it has verified, or what looks like an API token, which the controller alone can judge.
import { isApiToken, parseApiToken, type Verifier } from "@pitwall/auth";
import { PitwallError } from "@pitwall/runtime";

/** Takes an `authorization` header; the credential in it. Throws what {@link Verifier} throws. Whatever passes, the controller verifies again. */
export type Door = (authorization: string | undefined) => Promise<string>;

export function openDoor(verifier: Verifier): Door {
  return async (authorization) => {
    if (authorization !== undefined && isApiToken(authorization)) {
      const token = parseApiToken(authorization);
      if (!token) throw new PitwallError("unauthenticated", "the API token is damaged: it is not whole", { reason: "TOKEN_INVALID" });
      return token.text;
    }
    await verifier.verify(authorization);
    return (authorization ?? "").replace(/^bearer /i, "");
  };
}
