// Establishes who calls, before anything else looks at a call.
import { X509Certificate } from "node:crypto";
import { ServerInterceptingCall, ServerListenerBuilder, type Metadata, type ServerInterceptor } from "@grpc/grpc-js";
import { PitwallError } from "@pitwall/runtime";
import type { CallContext, ServerMiddleware, ServerMiddlewareCall } from "nice-grpc";
import type { Authenticator } from "../access/authenticator.ts";
import type { Member } from "../enroll/enroll.ts";
import type { Principal } from "../projects/principal.ts";
import { policyOf } from "./policy.ts";

/** Set by {@link peerInterceptor} and taken away from whoever sends it. */
const peerKey = "pitwall-peer-internal";

/** What {@link authenticate} adds to a call's context. */
export interface CallerContext {
  readonly user: Principal | undefined;
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

/** `node/UUID` or `gateway/UUID` of a certificate that TLS has verified already. */
function identityOf(der: Buffer): string | undefined {
  const names = new X509Certificate(der).subjectAltName ?? "";
  return /(?:^|, )URI:pitwall:\/\/((?:node|gateway)\/[0-9a-f-]{36})(?:,|$)/.exec(names)?.[1];
}

/** Middleware that holds each method to its policy. */
export function authenticate(authenticator: Authenticator): ServerMiddleware<CallerContext> {
  return async function* policy<Req, Res>(call: ServerMiddlewareCall<Req, Res, CallerContext>, context: CallContext) {
    const wanted = policyOf(call.method.path);
    const member = memberOf(context.metadata.get(peerKey));
    const none: CallerContext = { user: undefined, member };
    switch (wanted) {
      case "anyone":
        return yield* call.next(call.request, { ...context, ...none });
      case "user":
      case "admin": {
        const user = await authenticator.authenticate(context.metadata.get("authorization"));
        if (wanted === "admin" && !user.isAdmin) throw new PitwallError("denied", "this is for administrators", { reason: "NOT_ADMIN" });
        return yield* call.next(call.request, { ...context, user, member: undefined });
      }
      case "node":
      case "gateway":
      case "member":
        if (!member || (wanted !== "member" && member.role !== wanted))
          throw new PitwallError("denied", `this is for the certificate of a ${wanted}`, { reason: "WRONG_ROLE" });
        return yield* call.next(call.request, { ...context, ...none });
      case undefined:
        throw new PitwallError("denied", "this method has no policy", { reason: "NO_POLICY" });
    }
  };
}

function memberOf(identity: string | undefined): Member | undefined {
  const [role, id] = identity?.split("/") ?? [];
  return (role === "node" || role === "gateway") && id !== undefined ? { role, id } : undefined;
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
