// The SSH door: lets in who has a key of the VM, and connects each connection to the SSH server in that VM.
import { Socket } from "node:net";
import { listen, type Failpoints, type HostPort, type Log } from "@pitwall/runtime";
import ssh2, { type AuthContext, type Connection, type ParsedKey } from "ssh2";
import { fromRpc, type AccessClient } from "../controller-link.ts";
import type { Tunnels } from "../tunnels/tunnels.ts";
import { algorithms } from "./algorithms.ts";
import { openForwards } from "./forwards.ts";
import type { SshKeyPair } from "./host-key.ts";
import { openReverseForwards } from "./reverse-forwards.ts";
import { openSessions } from "./sessions.ts";
import { jumpUser, parseTarget, type Login } from "./target.ts";
import { openVmConnection } from "./vm-connection.ts";

const loginGraceMs = 30_000;
/** Connections that have not yet proven a key. */
const maxUnproven = 100;
const maxAuthTries = 20;
const authorizeLimitMs = 5_000;

export interface SshParts {
  readonly hostKey: SshKeyPair;
  readonly access: () => AccessClient;
  readonly tunnels: Tunnels;
  readonly failpoints: Failpoints;
  readonly log: Log;
}

/** Disposing it ends all connections. */
export async function openSshServer(at: HostPort, parts: SshParts): Promise<AsyncDisposable & { readonly port: number }> {
  const { log } = parts;
  const connections = new Set<Connection>();
  let unproven = 0;
  const server = new ssh2.Server(
    { hostKeys: [parts.hostKey.privateKey], algorithms, ident: "pitwall", keepaliveInterval: 30_000, keepaliveCountMax: 4 },
    (client) => {
      socketOf(client)?.setNoDelay(true); // the protocol asks and answers in small packets: Nagle's algorithm makes each wait for 40 ms
      connections.add(client);
      const grace = setTimeout(() => client.end(), loginGraceMs);
      let isProven = false;
      const proven = (): void => {
        if (!isProven) unproven--;
        isProven = true;
        clearTimeout(grace);
      };
      unproven++;
      client.on("error", (error) => log.debug("an SSH connection broke", { error }));
      client.once("close", () => {
        proven();
        connections.delete(client);
      });
      if (unproven > maxUnproven) return void client.end();
      let login: Login | undefined;
      let tries = 0;
      client.on("authentication", (context) => {
        if (++tries > maxAuthTries) return void client.end();
        void authenticate(context, parts).then((accepted) => {
          login = accepted ?? login;
          if (accepted) context.accept();
        });
      });
      client.once("ready", () => {
        proven();
        if (login) serve(client, login, parts);
      });
    },
  );
  const port = await listen(server, at, "gateway");
  return {
    port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const connection of connections) connection.end();
      const timer = setTimeout(() => {
        for (const connection of connections) socketOf(connection)?.destroy();
      }, 500);
      await closed;
      clearTimeout(timer);
    },
  };
}

/** ssh2 has no public way to cut a connection whose peer does not answer (1.17, lib/server.js). */
function socketOf(connection: Connection): Socket | undefined {
  const socket: unknown = Reflect.get(connection, "_sock");
  return socket instanceof Socket ? socket : undefined;
}

/** Accepts a key that opens the VM: without a signature the client only asks whether it should sign. */
async function authenticate(context: AuthContext, { access, failpoints, log }: SshParts): Promise<Login | undefined> {
  const refuse = (): undefined => void context.reject(["publickey"]);
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
    log.debug("an SSH key was not let in", { error: fromRpc(error) });
    return refuse();
  }
  if (!context.signature || !context.blob) {
    context.accept(); // "this key would do": the proof comes next
    return undefined;
  }
  return verifies(key, context.blob, context.signature, context.hashAlgo) ? { publicKey, target } : refuse();
}

function verifies(key: ParsedKey, blob: Buffer, signature: Buffer, hash: string | undefined): boolean {
  return key.verify(blob, signature, hash);
}

function serve(client: Connection, login: Login, parts: SshParts): void {
  const vm = login.target && openVmConnection(login.target, login.publicKey, parts.tunnels);
  client.once("close", () => vm?.close());
  openSessions(client, vm, parts);
  openForwards(client, login, parts.tunnels, parts.log);
  openReverseForwards(client, vm, parts.log);
}
