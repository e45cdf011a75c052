// As whom somebody acts in a VM by a way into it, where their role in its project lets them act as some users alone. No I/O.
import { SshWay, type OpenTunnelRequest, type TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import { PitwallError } from "@pitwall/runtime";
import { everybody, isUnlimited, mayBe, usualLogin, type Logins } from "../projects/logins.ts";
import { actsInGuest, opensSsh } from "./way.ts";

/** Methods of the guest's API that act as whom their caller names, which the VM sees. The others act as root. */
const runsAsSomebody: ReadonlySet<string> = new Set(
  ["Exec", "StartExec", "AttachExec", "ListExecs"].map((method) => `GuestService/${method}`),
);

/** A way that was let in. */
export interface Acting {
  /** Where it leads, and what the VM itself is to hold it to. */
  readonly target: TunnelTarget;
  /** As whom one may act by it; none where nobody acts. */
  readonly logins: Logins;
  /** Whom the gateway logs in as; empty where it does not. */
  readonly user: string;
}

/** Whether somebody acts as a user of the VM by such a way, so that it matters who they may be. */
export function letsAct(led: TunnelTarget, method: string): boolean {
  return opensSsh(led) || (led.target?.$case === "guestApi" && actsInGuest(method));
}

/** Who comes by a way that {@link letsAct}. */
export interface Actor {
  /** Those of their role. */
  readonly logins: Logins;
  /** Fingerprints of the keys that the VM is to keep; undefined for who may be anybody. */
  readonly kept: readonly string[] | undefined;
  /** Undefined for who is told no names. */
  readonly vmName: string | undefined;
}

/**
 * `led` is the request's target with its port known.
 * Throws `denied` for a way by which somebody would be who they may not be.
 */
export function actBy(request: OpenTunnelRequest, led: TunnelTarget, { logins, kept, vmName }: Actor): Acting {
  const { target } = led;
  const keptKeys = kept && { fingerprints: [...kept] };
  const isDoor = target?.$case === "ssh" && request.sshWay === SshWay.SSH_WAY_DOOR;
  if (isDoor) {
    // The gateway logs in, and is believed: a VM that was booted by a version before this can be entered so, too.
    const user = request.sshUser || usualLogin(logins);
    if (!mayBe(logins, user)) throw refused(logins, vmName, `not as ${user}`);
    return { target: keptKeys ? { target: { $case: "ssh", value: { ...target.value, keptKeys } } } : led, logins: [user], user };
  }
  const user = request.sshUser;
  if (target?.$case === "ssh") {
    if (isUnlimited(logins)) return { target: led, logins: everybody, user };
    // Whom the client logs in as is ciphertext here: the VM sees it.
    return { target: { target: { $case: "limitedSsh", value: { ...target.value, logins: [...logins], keptKeys } } }, logins, user };
  }
  if (opensSsh(led)) {
    // At its port the VM knows keys alone, and what the image may have there is not ours to ask.
    if (!isUnlimited(logins)) throw refused(logins, vmName, "which its port 22 does not look at: use ssh, ssh -J or pitwall ssh");
    return { target: led, logins: everybody, user };
  }
  if (!letsAct(led, request.method)) return { target: led, logins: [], user };
  // Whoever may be root may be anybody.
  if (mayBe(logins, "root")) return { target: led, logins: ["root"], user };
  if (!runsAsSomebody.has(request.method)) throw refused(logins, vmName, "and this acts as root: use scp or sftp");
  return { target: { target: { $case: "limitedGuestApi", value: { logins: [...logins], keptKeys } } }, logins, user };
}

/** Whether somebody may go on who acts by a way that was opened for `opened`, now that their role has `logins`. */
export function mayGoOn(opened: Logins, logins: Logins): boolean {
  return opened.every((user) => mayBe(logins, user));
}

function refused(logins: Logins, vmName: string | undefined, why: string): PitwallError {
  const message =
    vmName === undefined
      ? "this way into the VM is open to those alone who may log in to it as anybody"
      : `in the VM ${vmName} your role lets you log in as ${logins.join(", ")}, ${why}`;
  return new PitwallError("denied", message, { reason: "LOGIN_NOT_ALLOWED" });
}
