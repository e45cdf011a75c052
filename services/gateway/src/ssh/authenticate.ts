// Logging in: whether a key, or a certificate of one, opens a VM is the controller's word, and that the client has the key is proven here.
import { certificateType, isSshSignature, readSshCertificate } from "@pitwall/auth";
import type { Caller } from "@pitwall/proto/pitwall/v1/access.ts";
import { PitwallError, systemClock, type Failpoints, type Log } from "@pitwall/runtime";
import ssh2, { type AuthContext, type PublicKeyAuthContext } from "ssh2";
import { fromRpc, type AccessClient } from "../controller-link.ts";
import { jumpUser, parseTarget, type Login } from "./target.ts";

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

/** Accepts a key that opens the VM. */
export async function authenticate(context: AuthContext, { access, failpoints, log }: AuthenticateParts): Promise<Outcome> {
  const refuse = (): "refused" => {
    context.reject(["publickey"]);
    return "refused";
  };
  if (context.method !== "publickey") return refuse();
  const target = context.username === jumpUser ? undefined : parseTarget(context.username);
  if (!target && context.username !== jumpUser) return refuse();
  const shown = shownBy(context);
  if (!shown) return refuse();
  const { publicKey, sshCertificate } = shown;
  try {
    const asked = { sshPublicKey: publicKey, vm: target?.vm ?? "", ...(sshCertificate && { sshCertificate }) };
    await access().authorizeSsh(asked, { timeoutMs: authorizeLimitMs });
    await failpoints.at("ssh.key.authorized");
  } catch (error) {
    const why = fromRpc(error);
    log.debug("an SSH key was not let in", { error: why });
    refuse();
    return why instanceof PitwallError && ["unauthenticated", "denied", "not-found"].includes(why.fault) ? "refused" : "unknown";
  }
  if (!context.signature || !context.blob) {
    context.accept(); // "this key would do": the proof comes next
    return "asked";
  }
  if (!shown.verifies(context.blob, context.signature)) return refuse();
  const credential: Caller["credential"] = sshCertificate
    ? { $case: "sshCertificate", value: { certificate: sshCertificate, loginTime: new Date(systemClock.wallMs()) } }
    : { $case: "sshPublicKey", value: publicKey };
  return { publicKey, caller: { credential }, target };
}

/** What a client would log in with. */
interface Shown {
  /** `ssh-ed25519 AAAA…` */
  readonly publicKey: string;
  /** As it is on the wire; whose it is, and whether it is good, a controller says. */
  readonly sshCertificate?: Buffer;
  /** Whether the client has the private key. */
  verifies(data: Buffer, signature: Buffer): boolean;
}

/** Undefined for a kind of key that is not known here. */
function shownBy({ key: { algo, data }, hashAlgo }: PublicKeyAuthContext): Shown | undefined {
  if (algo === certificateType) {
    // The library knows nothing of certificates, and hands over what the client sent.
    const publicKey = certifiedKey(data);
    if (publicKey === undefined) return undefined;
    return { publicKey, sshCertificate: data, verifies: (signed, signature) => isSshSignature(signature, signed, publicKey) };
  }
  const key = ssh2.utils.parseKey(`${algo.replace(/^rsa-sha2-\d+$/, "ssh-rsa")} ${data.toString("base64")}`);
  if (key instanceof Error) return undefined;
  return {
    publicKey: `${key.type} ${key.getPublicSSH().toString("base64")}`,
    verifies: (signed, signature) => key.verify(signed, signature, hashAlgo),
  };
}

function certifiedKey(blob: Buffer): string | undefined {
  try {
    return readSshCertificate(blob).publicKey;
  } catch {
    return undefined;
  }
}
