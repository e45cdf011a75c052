// Logging in: whether somebody is known by a key, or a certificate of one, and whether it opens a VM, is the controller's word, and that the client has the key is proven here.
import { certificateType, isSshSignature, readSshCertificate, type SshCertificate } from "@pitwall/auth";
import type { Caller } from "@pitwall/proto/pitwall/v1/access.ts";
import { PitwallError, systemClock, type Failpoints, type Log } from "@pitwall/runtime";
import ssh2, { type AuthContext, type PublicKeyAuthContext } from "ssh2";
import { fromRpc, type AccessClient } from "../controller-link.ts";
import { jumpUser, parseTarget, type Login, type Permits } from "./target.ts";

const authorizeLimitMs = 5_000;

export interface AuthenticateParts {
  readonly access: () => AccessClient;
  readonly failpoints: Failpoints;
  readonly log: Log;
}

/**
 * `asked`: without a signature a client only asks whether it should sign. `unknown`: nobody could say, which is not the client's fault. The
 * context is answered, but for a login.
 */
export type Outcome = Login | "asked" | "refused" | "unknown";

/**
 * Accepts a key that opens the VM, and any other that somebody is known by, whatever the user name: by itself that opens nothing, each way into
 * a VM being asked for with the key, and `ssh -J` sends the name that its user has at home. A VM that is not there and one that is not the
 * key's are answered alike.
 */
export async function authenticate(context: AuthContext, { access, failpoints, log }: AuthenticateParts): Promise<Outcome> {
  const refuse = (): "refused" => {
    context.reject(["publickey"]);
    return "refused";
  };
  if (context.method !== "publickey") return refuse();
  const shown = shownBy(context);
  if (!shown) return refuse();
  const { publicKey, sshCertificate, permits } = shown;
  let subject = "";
  const ask = async (vm: string): Promise<void> => {
    const asked = { sshPublicKey: publicKey, vm, ...(sshCertificate && { sshCertificate }) };
    ({ subject } = await access()
      .authorizeSsh(asked, { timeoutMs: authorizeLimitMs })
      .catch((error: unknown) => {
        throw fromRpc(error);
      }));
  };
  let target: Login["target"] = parseUser(context.username);
  try {
    if (!(target instanceof PitwallError))
      await ask(target.vm).catch((error: unknown) => {
        if (!isRefusal(error)) throw error;
        target = error;
      });
    if (target instanceof PitwallError) await ask("");
    await failpoints.at("ssh.key.authorized");
  } catch (error) {
    log.debug("an SSH key was not let in", { error });
    refuse();
    return isRefusal(error) ? "refused" : "unknown";
  }
  if (!context.signature || !context.blob) {
    context.accept(); // "this key would do": the proof comes next
    return "asked";
  }
  if (!shown.verifies(context.blob, context.signature)) return refuse();
  const credential: Caller["credential"] = sshCertificate
    ? { $case: "sshCertificate", value: { certificate: sshCertificate, loginTime: new Date(systemClock.wallMs()) } }
    : { $case: "sshPublicKey", value: publicKey };
  return { publicKey, caller: { credential }, subject, target, permits };
}

/** The VM, or why there is none. */
function parseUser(username: string): Login["target"] {
  const why =
    username === jumpUser
      ? "jump only leads on to VMs, as ssh -J asks for: log in as the VM's name"
      : `there is no VM ${JSON.stringify(username.slice(0, 80))}`;
  return (username === jumpUser ? undefined : parseTarget(username)) ?? new PitwallError("not-found", why, { reason: "VM_NOT_FOUND" });
}

function isRefusal(error: unknown): error is PitwallError {
  return error instanceof PitwallError && ["unauthenticated", "denied", "not-found"].includes(error.fault);
}

/** What a client would log in with. */
interface Shown {
  /** `ssh-ed25519 AAAA…` */
  readonly publicKey: string;
  /** As it is on the wire; whose it is, and whether it is good, a controller says. */
  readonly sshCertificate?: Buffer;
  readonly permits: Permits;
  /** Whether the client has the private key. */
  verifies(data: Buffer, signature: Buffer): boolean;
}

/** Undefined for a kind of key that is not known here. */
function shownBy({ key: { algo, data }, hashAlgo }: PublicKeyAuthContext): Shown | undefined {
  if (algo === certificateType) {
    // The library knows nothing of certificates, and hands over what the client sent.
    const certificate = certificateIn(data);
    if (!certificate) return undefined;
    const { publicKey, extensions } = certificate;
    const permits = { pty: extensions.includes("permit-pty"), forwards: extensions.includes("permit-port-forwarding") };
    return { publicKey, sshCertificate: data, permits, verifies: (signed, signature) => isSshSignature(signature, signed, publicKey) };
  }
  const key = ssh2.utils.parseKey(`${algo.replace(/^rsa-sha2-\d+$/, "ssh-rsa")} ${data.toString("base64")}`);
  if (key instanceof Error) return undefined;
  return {
    publicKey: `${key.type} ${key.getPublicSSH().toString("base64")}`,
    permits: { pty: true, forwards: true },
    verifies: (signed, signature) => key.verify(signed, signature, hashAlgo),
  };
}

function certificateIn(blob: Buffer): SshCertificate | undefined {
  try {
    return readSshCertificate(blob);
  } catch {
    return undefined;
  }
}
