// The gateway's own SSH connection to a VM, opened when first needed and shared by the channels of one client.
import type { Duplex } from "node:stream";
import { SshWay, type Caller } from "@pitwall/proto/pitwall/v1/access.ts";
import { PitwallError } from "@pitwall/runtime";
import ssh2, { type Client } from "ssh2";
import type { Tunnels } from "../tunnels/tunnels.ts";
import { algorithms } from "./algorithms.ts";
import { makeKeyPair } from "./host-key.ts";
import type { SshTarget } from "./target.ts";

const readyLimitMs = 20_000;

/** The connection, once it is there. */
export interface Entered {
  readonly client: Client;
  /** Who is logged in where: `root@NAME`. */
  readonly name: string;
  /** The session by which what passes is to be recorded; undefined: it is not. */
  readonly recordAs: string | undefined;
}

export interface VmConnection {
  enter(): Promise<Entered>;
  close(): void;
}

/**
 * The key in use is made for this connection, and the VM lets it in on this tunnel only. The VM's host key must be the one its node reported.
 * In place of a VM, why there is none, which whoever would enter is told.
 */
export function openVmConnection(target: SshTarget | PitwallError, caller: Caller, tunnels: Tunnels): VmConnection {
  if (target instanceof PitwallError) return { enter: () => Promise.reject(target), close: () => undefined };
  return connectionTo(target, caller, tunnels);
}

function connectionTo({ vm, user }: SshTarget, caller: Caller, tunnels: Tunnels): VmConnection {
  let opening: Promise<Entered> | undefined;
  let current: Client | undefined;
  let isClosed = false;

  async function open(): Promise<Entered> {
    const keys = makeKeyPair();
    const target = { target: { $case: "ssh" as const, value: { sessionKey: keys.publicLine, keptKeys: undefined, hostCertificate: "" } } };
    const { stream, sshHostKey, sessionId, record, logins } = await tunnels.open(caller, vm, target, {
      sshWay: SshWay.SSH_WAY_DOOR,
      sshUser: user,
    });
    const client = new ssh2.Client();
    current = client;
    if (isClosed) stream.destroy();
    const login = logins[0] ?? (user || "root"); // a controller of the version before names nobody
    await connected(client, stream, { user: login, privateKey: keys.privateKey, hostKey: sshHostKey });
    return { client, name: `${login}@${vm}`, recordAs: record ? sessionId : undefined };
  }

  return {
    enter() {
      opening ??= open();
      opening.catch(() => {
        opening = undefined;
      });
      return opening;
    },
    close() {
      isClosed = true;
      current?.destroy();
    },
  };
}

async function connected(
  client: Client,
  stream: Duplex,
  { user, privateKey, hostKey }: { user: string; privateKey: string; hostKey: string },
): Promise<void> {
  const expected = Buffer.from(hostKey.split(" ")[1] ?? "", "base64");
  return new Promise((resolve, reject) => {
    client.once("ready", () => resolve());
    client.on("error", (cause) => {
      stream.destroy();
      const isAuth = "level" in cause && cause.level === "client-authentication";
      reject(
        isAuth
          ? new PitwallError("denied", `there is no user ${JSON.stringify(user)} in the VM`, { cause })
          : new PitwallError("unavailable", "the VM's SSH server does not answer", { cause }),
      );
    });
    client.once("close", () => stream.destroy());
    client.connect({
      sock: stream,
      username: user,
      privateKey,
      algorithms,
      strictVendor: false, // powerunit has OpenSSH's forwards of sockets, and another name
      readyTimeout: readyLimitMs,
      authHandler: ["publickey"], // the library begins with "none" otherwise, a round trip for nothing
      hostVerifier: (key: Buffer) => key.equals(expected),
    });
  });
}
