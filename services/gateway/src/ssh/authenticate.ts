// Logging in: whether a key opens a VM is the controller's word, and that the client has the key is proven here.
import { PitwallError, type Failpoints, type Log } from "@pitwall/runtime";
import ssh2, { type AuthContext, type ParsedKey } from "ssh2";
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
  const key = ssh2.utils.parseKey(`${context.key.algo.replace(/^rsa-sha2-\d+$/, "ssh-rsa")} ${context.key.data.toString("base64")}`);
  if (key instanceof Error) return refuse();
  const publicKey = `${key.type} ${key.getPublicSSH().toString("base64")}`;
  try {
    await access().authorizeSsh({ sshPublicKey: publicKey, vm: target?.vm ?? "" }, { timeoutMs: authorizeLimitMs });
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
  return verifies(key, context.blob, context.signature, context.hashAlgo) ? { publicKey, target } : refuse();
}

function verifies(key: ParsedKey, blob: Buffer, signature: Buffer, hash: string | undefined): boolean {
  return key.verify(blob, signature, hash);
}
