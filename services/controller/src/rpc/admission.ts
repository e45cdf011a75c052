// Which users may call a method at all, before any of it was read: what their credential, its role and its scopes, and their rate say.
import { PitwallError } from "@pitwall/runtime";
import type { Authenticator } from "../access/authenticator.ts";
import type { LockedUsers } from "../access/locked-users.ts";
import type { RateLimits } from "../limits/rate.ts";
import { isAtLeast, type Principal } from "../projects/principal.ts";
import { methodName, policyOf, type Policy } from "./policy.ts";

export interface AdmitParts {
  readonly authenticator: Authenticator;
  readonly limits: RateLimits;
  readonly locked: Pick<LockedUsers, "why">;
}

/** Who calls a method by their headers alone; undefined for methods that are not for users. Throws what the caller may hear. */
export type Admit = (path: string, authorization: string | undefined) => Promise<Principal | undefined>;

/** Holds each of users' methods to its policy, and each user to their rate. */
export function openAdmission({ authenticator, limits, locked }: AdmitParts): Admit {
  return async (path, authorization) => {
    const policy = policyOf(path);
    if (policy?.who !== "user" && policy?.who !== "person" && policy?.who !== "admin") return undefined;
    const user = await authenticator.authenticate(authorization);
    const lock = await locked.why(user.subject);
    if (lock) throw lock;
    if (policy.who === "admin" && !user.isAdmin) throw new PitwallError("denied", "this is for administrators", { reason: "NOT_ADMIN" });
    holdToken(user, path, policy);
    (policy.mutates ? limits.changes : limits.reads).take(user.token ? `token:${user.token.id}` : user.subject);
    return user;
  };
}

/** Throws `denied` for a token that was not made for the method. */
function holdToken({ token }: Principal, path: string, { who, least }: Policy): void {
  if (!token) return;
  if (who !== "user")
    throw new PitwallError("denied", "this is for people who sign in, not for API tokens", { reason: "TOKEN_NOT_ALLOWED" });
  const method = methodName(path);
  if (token.methods.size > 0 && !token.methods.has(method))
    throw new PitwallError("denied", `this API token is not for ${method}`, { reason: "TOKEN_SCOPE" });
  if (least !== undefined && !isAtLeast(token.role, least))
    throw new PitwallError("denied", `the role of this API token is ${token.role}; this needs ${least}`, { reason: "ROLE_TOO_LOW" });
}
