// Who gets past the gateway: a JWT that it has verified, or what looks like an API token, which the controller alone can judge.
import { digestOfApiToken, isApiToken, parseApiToken, type Verifier } from "@pitwall/auth";
import { PitwallError } from "@pitwall/runtime";

export interface Admitted {
  readonly credential: string;
  /** Whose limits it counts to. Of an API token all of it: with somebody's id and another secret, nobody uses up what is theirs. */
  readonly principal: string;
}

/** Takes an `authorization` header. Throws what {@link Verifier} throws. Whatever passes, the controller verifies again. */
export type Door = (authorization: string | undefined) => Promise<Admitted>;

export function openDoor(verifier: Verifier): Door {
  return async (authorization) => {
    if (authorization !== undefined && isApiToken(authorization)) {
      const token = parseApiToken(authorization);
      if (!token) throw new PitwallError("unauthenticated", "the API token is damaged: it is not whole", { reason: "TOKEN_INVALID" });
      return { credential: token.text, principal: `token ${digestOfApiToken(token)}` };
    }
    const { subject } = await verifier.verify(authorization);
    return { credential: (authorization ?? "").replace(/^bearer /i, ""), principal: `subject ${subject}` };
  };
}
