// `ssh -L` into the VM one is logged in to, to its ports and its sockets, and `ssh -J` to the SSH server of any VM that the key opens.
import { certificateType } from "@pitwall/auth";
import { PitwallError, splice, type Log } from "@pitwall/runtime";
import type { Channel, Connection } from "ssh2";
import { SshWay, type TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import type { Tunnels, TunnelUse } from "../tunnels/tunnels.ts";
import type { Account } from "./limits.ts";
import { parseTarget, type Login } from "./target.ts";
import type { VmConnection } from "./vm-connection.ts";
import { watchChannel } from "./windows.ts";

interface Way {
  readonly vm: string;
  readonly target: TunnelTarget;
  readonly use?: TunnelUse;
}

const sshPort = 22;
const loopbacks: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "::1"]);

export interface ForwardParts {
  readonly login: Login;
  readonly vm: VmConnection;
  readonly account: Account;
  readonly tunnels: Tunnels;
  readonly log: Log;
}

export function openForwards(client: Connection, parts: ForwardParts): void {
  const { login, vm, account, tunnels } = parts;
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
      (error: unknown) => refuse(client, reject, error, parts),
    );
  });
  // Sockets are files: the VM's SSH server looks at who is logged in.
  client.on("openssh.streamlocal", (accept, reject, { socketPath }) => {
    if (!login.permits.forwards || !account.openForward()) return void reject();
    vm.enter().then(
      ({ client: inner }) =>
        inner.openssh_forwardOutStreamLocal(socketPath, (error, channel) => {
          if (error) return refuse(client, reject, error, parts);
          const outer: Channel = accept();
          outer.once("close", () => account.closedForward());
          account.watch(outer);
          watchChannel(channel, { overran: () => vm.close() });
          void splice(outer, channel);
        }),
      (error: unknown) => refuse(client, reject, error, parts),
    );
  });
}

function refuse(client: Connection, reject: () => void, error: unknown, { account, log }: ForwardParts): void {
  log.debug("a forward was refused", { error });
  account.closedForward();
  if (error instanceof PitwallError) rejectSaying(client, reject, error.message);
  else reject();
}

/**
 * Names of VMs with port 22 are jumps, whatever one is logged in to, for a jump's own login may happen to name a VM; the loopback addresses are
 * those of the VM one is logged in to. Jumps need no permission of a certificate: the VM looks at it.
 */
function wayTo(login: Login, host: string, port: number): Way | undefined {
  const { target, permits } = login;
  if (!(target instanceof PitwallError) && loopbacks.has(host))
    return permits.forwards ? { vm: target.vm, target: { target: { $case: "tcp", value: { port } } } } : undefined;
  const named = parseTarget(host);
  if (!named || port !== sshPort || loopbacks.has(host)) return undefined;
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
