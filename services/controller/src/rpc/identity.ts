// Establishes who calls, before anything else looks at a call.
import { X509Certificate } from "node:crypto";
import { ServerInterceptingCall, ServerListenerBuilder, type Metadata, type ServerInterceptor } from "@grpc/grpc-js";
import { PitwallError } from "@pitwall/runtime";
import type { CallContext, ServerMiddleware, ServerMiddlewareCall } from "nice-grpc";
import type { LiveCalls } from "../access/live-calls.ts";
import type { LockedUsers } from "../access/locked-users.ts";
import { lockedOut } from "../access/locks.ts";
import type { PeerRole } from "../ca/ca.ts";
import type { Member } from "../enroll/enroll.ts";
import type { Membership } from "../enroll/membership.ts";
import type { Principal } from "../projects/principal.ts";
import { callerKey, type Callers } from "./callers.ts";
import { policyOf } from "./policy.ts";

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
          metadata.remove(callerKey);
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
  readonly membership: Pick<Membership, "check">;
  /** Those that the interceptor has let in. */
  readonly callers: Pick<Callers, "take">;
  /** Of API tokens. */
  readonly live: LiveCalls;
  readonly locked: Pick<LockedUsers, "why">;
  /** Of users who are not locked out. */
  readonly free: LiveCalls;
}

/** Middleware that holds each method to its policy; users were admitted when their headers came. */
export function authenticate({ callers, live, membership, locked, free }: GuardParts): ServerMiddleware<CallerContext> {
  return async function* guard<Req, Res>(call: ServerMiddlewareCall<Req, Res, CallerContext>, context: CallContext) {
    const policy = policyOf(call.method.path);
    const peer = peerOf(context.metadata.get(peerKey));
    const member = peer && peer.role !== "controller" ? { role: peer.role, id: peer.id } : undefined;
    const none: CallerContext = { user: undefined, member };
    switch (policy?.who) {
      case "anyone":
        return yield* call.next(call.request, { ...context, ...none });
      case "user":
      case "person":
      case "admin": {
        const user = callers.take(context.metadata.get(callerKey));
        if (!user) throw new PitwallError("unauthenticated", "nobody was admitted for this call", { reason: "TOKEN_MISSING" });
        const { subject, token } = user;
        const held: Held[] = [];
        if (token) held.push({ calls: live, grant: token.id, ended: tokenEnded });
        // What is over in a moment is not looked after.
        if (call.method.requestStream || call.method.responseStream || waits.has(call.method.path))
          held.push({ calls: free, grant: subject, ended: async () => (await locked.why(subject)) ?? lockedOut("") });
        return yield* whileValid(held, context.signal, (signal) =>
          call.next(call.request, { ...context, signal, user, member: undefined }),
        );
      }
      case "node":
      case "gateway":
      case "controller":
      case "member":
        if (policy.who === "member" ? !member : peer?.role !== policy.who)
          throw new PitwallError("denied", `this is for the certificate of a ${policy.who}`, { reason: "WRONG_ROLE" });
        if (member) await membership.check(member);
        return yield* call.next(call.request, { ...context, ...none });
      case undefined:
        throw new PitwallError("denied", "this method has no policy", { reason: "NO_POLICY" });
    }
  };
}

/** One answer, which may take long. */
const waits: ReadonlySet<string> = new Set(["/pitwall.v1.VmService/WaitVm"]);

/** What a call goes on by. */
interface Held {
  readonly calls: LiveCalls;
  readonly grant: string;
  /** What is said when it holds no longer. */
  readonly ended: () => Promise<PitwallError>;
}

const tokenEnded = async (): Promise<PitwallError> =>
  new PitwallError("unauthenticated", "the API token is no longer valid", { reason: "TOKEN_INVALID" });

/** Ends a call when one of these holds no longer before it is over. */
async function* whileValid<Res>(
  [held, ...more]: readonly Held[],
  signal: AbortSignal,
  serve: (signal: AbortSignal) => AsyncGenerator<Res, Res | void, undefined>,
): AsyncGenerator<Res, Res | void, undefined> {
  if (!held) return yield* serve(signal);
  using call = held.calls.follow([held.grant]);
  try {
    const result = yield* whileValid(more, AbortSignal.any([signal, call.signal]), serve);
    if (call.signal.aborted) throw await held.ended();
    return result;
  } catch (error) {
    throw call.signal.aborted ? await held.ended() : error;
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
