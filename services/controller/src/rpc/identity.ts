// Establishes who calls, before anything else looks at a call.
import { X509Certificate } from "node:crypto";
import { ServerInterceptingCall, ServerListenerBuilder, type Metadata, type ServerInterceptor } from "@grpc/grpc-js";
import { PitwallError } from "@pitwall/runtime";
import type { CallContext, ServerMiddleware, ServerMiddlewareCall } from "nice-grpc";
import type { Authenticator } from "../access/authenticator.ts";
import type { LiveCalls } from "../access/live-calls.ts";
import type { PeerRole } from "../ca/ca.ts";
import type { Member } from "../enroll/enroll.ts";
import type { RateLimits } from "../limits/rate.ts";
import { isAtLeast, type Principal } from "../projects/principal.ts";
import { methodName, policyOf, type Policy } from "./policy.ts";

/** Set by {@link peerInterceptor} and taken away from whoever sends it. */
const peerKey = "pitwall-peer-internal";

/** What {@link authenticate} adds to a call's context. */
export interface CallerContext {
  readonly user: Principal | undefined;
  /** Undefined for controllers too: they ask each other, and are nobody's member. */
  readonly member: Member | undefined;
}

/** Puts the verified client certificate's identity where nice-grpc, which shows metadata only, can see it. */
export const peerInterceptor: ServerInterceptor = (_method, call) =>
  new ServerInterceptingCall(call, {
    start: (next) => {
      const listener = new ServerListenerBuilder()
        .withOnReceiveMetadata((metadata: Metadata, pass) => {
          metadata.remove(peerKey);
          const raw = call.getAuthContext().sslPeerCertificate?.raw;
          const identity = raw && identityOf(raw);
          if (identity) metadata.set(peerKey, identity);
          pass(metadata);
        })
        .build();
      next(listener);
    },
  });

/** `ROLE/UUID` of a certificate that TLS has verified already. */
function identityOf(der: Buffer): string | undefined {
  const names = new X509Certificate(der).subjectAltName ?? "";
  return /(?:^|, )URI:pitwall:\/\/((?:node|gateway|controller)\/[0-9a-f-]{36})(?:,|$)/.exec(names)?.[1];
}

export interface GuardParts {
  readonly authenticator: Authenticator;
  readonly limits: RateLimits;
  readonly live: LiveCalls;
}

/** Middleware that holds each method to its policy, and each user to their rate. */
export function authenticate({ authenticator, limits, live }: GuardParts): ServerMiddleware<CallerContext> {
  return async function* guard<Req, Res>(call: ServerMiddlewareCall<Req, Res, CallerContext>, context: CallContext) {
    const { path } = call.method;
    const policy = policyOf(path);
    const peer = peerOf(context.metadata.get(peerKey));
    const member = peer && peer.role !== "controller" ? { role: peer.role, id: peer.id } : undefined;
    const none: CallerContext = { user: undefined, member };
    switch (policy?.who) {
      case "anyone":
        return yield* call.next(call.request, { ...context, ...none });
      case "user":
      case "person":
      case "admin": {
        const user = await authenticator.authenticate(context.metadata.get("authorization"));
        if (policy.who === "admin" && !user.isAdmin)
          throw new PitwallError("denied", "this is for administrators", { reason: "NOT_ADMIN" });
        holdToken(user, path, policy);
        (policy.mutates ? limits.changes : limits.reads).take(user.token ? `token:${user.token.id}` : user.subject);
        if (!user.token) return yield* call.next(call.request, { ...context, user, member: undefined });
        return yield* whileValid(live, user.token.id, context, (signal) =>
          call.next(call.request, { ...context, signal, user, member: undefined }),
        );
      }
      case "node":
      case "gateway":
      case "controller":
      case "member":
        if (policy.who === "member" ? !member : peer?.role !== policy.who)
          throw new PitwallError("denied", `this is for the certificate of a ${policy.who}`, { reason: "WRONG_ROLE" });
        return yield* call.next(call.request, { ...context, ...none });
      case undefined:
        throw new PitwallError("denied", "this method has no policy", { reason: "NO_POLICY" });
    }
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

/** Ends a call whose token is revoked, or expires, before it is over. */
async function* whileValid<Res>(
  live: LiveCalls,
  tokenId: string,
  context: CallContext,
  serve: (signal: AbortSignal) => AsyncGenerator<Res, Res | void, undefined>,
): AsyncGenerator<Res, Res | void, undefined> {
  using call = live.follow([tokenId]);
  const ended = (): PitwallError => new PitwallError("unauthenticated", "the API token is no longer valid", { reason: "TOKEN_INVALID" });
  try {
    const result = yield* serve(AbortSignal.any([context.signal, call.signal]));
    if (call.signal.aborted) throw ended();
    return result;
  } catch (error) {
    throw call.signal.aborted ? ended() : error;
  }
}

function peerOf(identity: string | undefined): { readonly role: PeerRole; readonly id: string } | undefined {
  const [role, id] = identity?.split("/") ?? [];
  return (role === "node" || role === "gateway" || role === "controller") && id !== undefined ? { role, id } : undefined;
}

/** The user of a call that the policy let through. */
export function userOf({ user }: CallerContext): Principal {
  if (!user) throw new PitwallError("internal", "a user's method was reached without a user");
  return user;
}

/** The same for members. */
export function memberIn({ member }: CallerContext): Member {
  if (!member) throw new PitwallError("internal", "a member's method was reached without a member");
  return member;
}
