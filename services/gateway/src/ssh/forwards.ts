// `ssh -L` into the VM one is logged in to, and `ssh -J` to the SSH server of any VM that the key opens.
import { certificateType } from "@pitwall/auth";
import { PitwallError, splice, type Log } from "@pitwall/runtime";
import type { Connection } from "ssh2";
import { SshWay, type TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import type { Tunnels, TunnelUse } from "../tunnels/tunnels.ts";
import type { Account } from "./limits.ts";
import { parseTarget, type Login } from "./target.ts";

interface Way {
  readonly vm: string;
  readonly target: TunnelTarget;
  readonly use?: TunnelUse;
}

const sshPort = 22;
const loopbacks: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "::1"]);

export function openForwards(client: Connection, login: Login, account: Account, tunnels: Tunnels, log: Log): void {
  client.on("tcpip", (accept, reject, { destIP, destPort }) => {
    const way = wayTo(login, destIP, destPort);
    if (!way || !account.openForward()) return void reject();
    tunnels.open(login.caller, way.vm, way.target, way.use).then(
      ({ stream }) => {
        const channel = accept();
        channel.once("close", () => account.closedForward());
        account.watch(channel);
        void splice(channel, stream);
      },
      (error: unknown) => {
        log.debug("a forward was refused", { error });
        account.closedForward();
        if (error instanceof PitwallError) rejectSaying(client, reject, error.message);
        else reject();
      },
    );
  });
}

/** Names of VMs with port 22 are jumps; the loopback addresses are those of the VM one is logged in to. */
function wayTo(login: Login, host: string, port: number): Way | undefined {
  const { target } = login;
  if (target && loopbacks.has(host)) return { vm: target.vm, target: { target: { $case: "tcp", value: { port } } } };
  const named = parseTarget(host);
  if (!named || port !== sshPort || target) return undefined;
  return {
    vm: named.vm,
    target: { target: { $case: "ssh", value: { sessionKey: shownIn(login), keptKeys: undefined, hostCertificate: "" } } },
    use: { sshWay: SshWay.SSH_WAY_JUMP },
  };
}

/** With what the client will log in to the VM: a certificate the VM judges for itself. */
function shownIn({ caller: { credential }, publicKey }: Login): string {
  if (credential?.$case !== "sshCertificate") return publicKey;
  return `${certificateType} ${Buffer.from(credential.value.certificate).toString("base64")}`;
}

const administrativelyProhibited = 1;

/**
 * Rejects with a reason in words, which OpenSSH shows. The library (1.17) has no room for one: it calls its protocol with an empty text, and
 * in this moment another function stands there.
 */
function rejectSaying(client: Connection, reject: () => void, why: string): void {
  const protocol: unknown = Reflect.get(client, "_protocol");
  const fail: unknown = typeof protocol === "object" && protocol !== null ? Reflect.get(protocol, "channelOpenFail") : undefined;
  if (typeof protocol !== "object" || protocol === null || typeof fail !== "function") return reject();
  Reflect.set(protocol, "channelOpenFail", (remote: number): void => {
    Reflect.apply(fail, protocol, [remote, administrativelyProhibited, why]);
  });
  try {
    reject();
  } finally {
    Reflect.deleteProperty(protocol, "channelOpenFail"); // the one of its class again
  }
}
