// How somebody comes into a VM, as the audit log tells it. No I/O.
import { readSshCertificate } from "@pitwall/auth";
import { SshWay, type Caller, type OpenTunnelRequest, type TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import { invalid, PitwallError } from "@pitwall/runtime";
import { isLoginName } from "../projects/logins.ts";
import { parseSshKey } from "../vm/ssh-keys.ts";

/** Where SSH servers listen. */
const sshPort = 22;

/** What is known of a way in, beside who comes and where to; what is not known is left out. */
export interface Way {
  /** `ssh` or `guestApi`. */
  readonly target: string;
  readonly method?: string;
  /** Of SSH: `door`, which the gateway serves itself, or `jump`, which it carries unread. */
  readonly way?: string;
  /** In the VM. */
  readonly user?: string;
  /** `SHA256:…` of the SSH key that was proven. */
  readonly key?: string;
  /** In decimal: of the certificate that the key was shown with. */
  readonly certificate?: string;
}

/** Throws `invalid` for what no SSH user name of the gateway can hold. */
export function checkUser(user: string): void {
  if (user !== "" && !isLoginName(user)) throw invalid("ssh_user", "is no user's name");
}

/** Of a request that was let in. */
export function wayOf({ target, method, sshWay, sshUser, caller }: OpenTunnelRequest): Way {
  const way = sshWay === SshWay.SSH_WAY_DOOR ? "door" : sshWay === SshWay.SSH_WAY_JUMP ? "jump" : undefined;
  return {
    target: target?.target?.$case ?? "",
    ...(method !== "" && { method }),
    ...(way !== undefined && { way }),
    ...(sshUser !== "" && { user: sshUser }),
    ...credentialOf(caller),
  };
}

function credentialOf(caller: Caller | undefined): Pick<Way, "key" | "certificate"> {
  switch (caller?.credential?.$case) {
    case "sshPublicKey":
      return { key: parseSshKey(caller.credential.value, "caller.ssh_public_key").fingerprint };
    case "sshCertificate": {
      const { publicKey, serial } = readSshCertificate(Buffer.from(caller.credential.value.certificate));
      return { key: parseSshKey(publicKey, "caller.ssh_certificate").fingerprint, certificate: String(serial) };
    }
    default:
      return {};
  }
}

/** Whether a method of the guest's API lets somebody act in the VM; none is said by gateways of a version before. */
export function actsInGuest(method: string): boolean {
  return !/^GuestService\/(ReadLogs|GetStats)$/.test(method);
}

/** Whether SSH goes through it: to the VM's own server, or by the port of SSH to what the image may have there. */
export function opensSsh({ target }: TunnelTarget): boolean {
  return target?.$case === "ssh" || (target?.$case === "tcp" && target.value.port === sshPort);
}

/**
 * Where sessions are recorded, the gateway must see what passes. Throws `state` for a way by which it does not; `vmName` is undefined for
 * who is told no names.
 */
export function refuseUnread({ target, sshWay, sessionId }: OpenTunnelRequest, vmName: string | undefined): void {
  if (target?.target?.$case === "ssh" && sshWay === SshWay.SSH_WAY_DOOR && sessionId !== "") return;
  const instead = vmName === undefined ? "" : `: log in as ssh ${vmName}@GATEWAY, or with pitwall ssh`;
  const named = vmName === undefined ? "the VM" : `the VM ${vmName}`;
  throw new PitwallError("state", `sessions in ${named} are recorded, which this way does not allow${instead}`, {
    reason: "SESSIONS_RECORDED",
  });
}
