// Ways into VMs: asks the controller, then waits for the VM's node to dial in with the token of this one request.
import { createHash, randomBytes, X509Certificate } from "node:crypto";
import { createServer, type TLSSocket } from "node:tls";
import type { Identity } from "@pitwall/enroll";
import type { Caller, SshWay, TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import { listen, PitwallError, readLine, systemClock, type Failpoints, type HostPort, type Log } from "@pitwall/runtime";
import { fromRpc, type AccessClient } from "../controller-link.ts";
import type { GatewayMetrics } from "../metrics.ts";
import { LiveTunnels } from "./live-tunnels.ts";
import { Placements } from "./placements.ts";
import type { SessionEnds } from "./session-ends.ts";

/** A VM that is booting is waited for. */
const answerLimitMs = 60_000;
const dialLimitMs = 10_000;
const helloLimitMs = 5_000;
const maxHelloBytes = 512;
const maxUnproven = 256;
/** A node that lost its power, or its network, says no goodbye: its ways are found so, also those on which nobody says anything. */
const keepAliveMs = 60_000;
/** Of what looks after a way into a VM, and of joining it to another stream, or of that one; more would be a leak. */
export const maxTunnelListeners = 25;
const sshPort = 22;

/** An open way into a VM. */
export interface Tunnel {
  readonly stream: TLSSocket;
  readonly vmId: string;
  /** `ssh-ed25519 AAAA…` */
  readonly sshHostKey: string;
  readonly subject: string;
  /** As the controller knows it; empty for what has none. */
  readonly sessionId: string;
  /** What passes is to be recorded, and not served otherwise. */
  readonly record: boolean;
  /** As whom one may act through it; with the gateway's own SSH, who to log in as. */
  readonly logins: readonly string[];
}

/** Disposing it ends all tunnels. */
export interface Tunnels extends AsyncDisposable {
  readonly port: number;
  /** `vm` is a reference, or the VM's name below the ingress domain. Throws what the controller said, `unavailable` when no node dialled in, `not-found` when nothing listens in the VM. */
  open(caller: Caller, vm: string | ByHost, target: TunnelTarget, use?: TunnelUse): Promise<Tunnel>;
  /** Throws as {@link open}, and opens nothing. `port` 0 is the VM's usual one. */
  mayEnter(caller: Caller, vm: ByHost, port: number, signal: AbortSignal): Promise<boolean>;
}

/** In place of a reference. */
export interface ByHost {
  readonly host: string;
}

/** What a tunnel is for. */
export interface TunnelUse {
  /** The `Service/Method` that goes through one to the guest's API. */
  readonly method?: string;
  /** Of one to the SSH server. */
  readonly sshWay?: SshWay;
  /** Who the gateway logs in as; empty: whom the controller says. */
  readonly sshUser?: string;
  /** Aborted when nobody wants it any more; without it what is begun goes on to its end. */
  readonly signal?: AbortSignal;
}

/** What came with a token: a way, or why there is none. */
interface Dialled {
  readonly nodeId: string;
  readonly came: TLSSocket | PitwallError;
}

interface Waiting {
  accept(dialled: Dialled): void;
  /** Whoever it was that dialled. */
  refuse(error: PitwallError): void;
}

export interface TunnelsParts {
  /** Gives the address that nodes are told, once the port is known. */
  readonly advertise: (port: number) => string;
  readonly identity: Identity;
  readonly access: () => AccessClient;
  readonly ends: SessionEnds;
  /** How long a way stays open while no controller says that it may. */
  readonly staleMs: number;
  readonly failpoints: Failpoints;
  readonly metrics: GatewayMetrics;
  readonly log: Log;
}

/** Listens for nodes. */
export async function openTunnels(at: HostPort, parts: TunnelsParts): Promise<Tunnels> {
  const { advertise, identity, access, ends, staleMs, failpoints, metrics, log } = parts;
  const waiting = new Map<string, Waiting>();
  const sockets = new Set<TLSSocket>();
  const placements = new Placements();
  const live = new LiveTunnels(access, { staleMs, log });
  let unproven = 0;

  const context = (): { key: string; cert: string; ca: string } => identity.tls();
  const server = createServer(
    {
      ...context(),
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: "TLSv1.3",
      allowHalfOpen: true,
      handshakeTimeout: helloLimitMs,
    },
    (socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined).once("close", () => sockets.delete(socket));
      if (unproven >= maxUnproven) return void socket.destroy();
      unproven++;
      void receive(socket).finally(() => unproven--);
    },
  );
  server.on("tlsClientError", (error) => log.debug("a TLS handshake failed", { error }));
  identity.onRenewed(() => server.setSecureContext(context()));

  async function receive(socket: TLSSocket): Promise<void> {
    socket.setNoDelay(true).setKeepAlive(true, keepAliveMs);
    try {
      const names = new X509Certificate(socket.getPeerCertificate().raw).subjectAltName ?? "";
      const nodeId = /(?:^|, )URI:pitwall:\/\/node\/([0-9a-f-]{36})(?:,|$)/.exec(names)?.[1];
      if (nodeId === undefined) throw new Error("the peer is no node");
      const line = await readLine(socket, maxHelloBytes, AbortSignal.timeout(helloLimitMs));
      const [, token = "", refusal] = /^PITWALL-TUNNEL\/1 ([A-Za-z0-9_-]{43})(?: ERR (.*))?$/.exec(line) ?? [];
      const digest = digestOf(token);
      const waiter = waiting.get(digest);
      waiting.delete(digest);
      await failpoints.at("tunnel.node.accepted").catch((error: unknown) => {
        waiter?.refuse(new PitwallError("unavailable", "the way into the VM could not be opened; try again", { cause: error }));
        throw error;
      });
      if (!waiter) throw new Error("the token is not known, or too old");
      if (refusal !== undefined) {
        waiter.accept({ nodeId, came: new PitwallError("not-found", refusal, { reason: "TARGET_REFUSED" }) });
        socket.end("OK\n");
        return;
      }
      socket.write("OK\n");
      waiter.accept({ nodeId, came: socket });
    } catch (error) {
      log.warn("a tunnel was refused", { error });
      socket.end(`ERR ${error instanceof Error ? error.message : "refused"}\n`, () => socket.destroy());
    }
  }

  // A node's answer must reach the process that waits for it.
  const port = await listen(server, at, "gateway", { exclusive: true });

  return {
    port,
    async open(caller, vm, target, { signal, ...use } = {}) {
      const { method = "" } = use;
      const token = randomBytes(32).toString("base64url");
      const digest = digestOf(token);
      await ends.started();
      // What leads to a port is in no log.
      const session = target.target?.$case === "tcp" ? undefined : ends.begin();
      const dialled = new Promise<Dialled>((accept, refuse) => waiting.set(digest, { accept, refuse }));
      dialled.catch(() => undefined); // raced below
      const timeout = new AbortController();
      try {
        refuseGone(signal);
        await failpoints.at("tunnel.token.minted");
        const named = typeof vm === "string" ? { vm } : { host: vm.host };
        const {
          vmId,
          epoch,
          nodeId,
          sshHostKey,
          subject,
          port: led,
          sessionId,
          record,
          logins,
        } = await access()
          .openTunnel(
            { ...named, caller, target, token, gatewayAddress: advertise(port), ...use, sessionId: session?.id ?? "" },
            { timeoutMs: answerLimitMs, ...(signal && { signal }) },
          )
          .catch((error: unknown) => {
            throw fromRpc(error);
          });
        placements.heard(vmId, epoch);
        refuseGone(signal);
        signal?.addEventListener("abort", () => timeout.abort(), { signal: timeout.signal });
        const late = systemClock.sleep(dialLimitMs, timeout.signal).then(() => {
          throw new PitwallError("unavailable", "the VM's node did not answer in time; try again", { reason: "TUNNEL_TIMEOUT" });
        });
        late.catch(() => undefined); // raced
        const stream = bound(await Promise.race([dialled, late]), nodeId, log).setMaxListeners(maxTunnelListeners);
        if (sessionId === "") session?.dropped();
        else session?.carriedBy(stream);
        try {
          refuseClosed(stream); // its node may have dialled, and gone, while the controller was answering
          placements.opened(vmId, epoch, stream);
          await failpoints.at("tunnel.gateway.opened", vmId);
          refuseClosed(stream);
        } catch (error) {
          stream.destroy();
          throw error;
        }
        const [host, unrecordedSsh] = [typeof vm === "string" ? "" : vmId, !record && opensSsh(target, led)];
        live.follow({ caller, vm: vmId, method, host, port: led, unrecordedSsh, logins }, stream, sessionId);
        metrics.enter("tunnels");
        stream.once("close", () => metrics.leave("tunnels"));
        return { stream, vmId, sshHostKey, subject, sessionId, record, logins };
      } catch (error) {
        if (isRefusal(error)) session?.dropped();
        else session?.cameToNothing();
        void dialled.then(({ came }) => came instanceof PitwallError || came.destroy()).catch(() => undefined); // nobody else would
        throw error;
      } finally {
        timeout.abort();
        waiting.delete(digest);
      }
    },
    async mayEnter(caller, { host }, ofPort, signal) {
      const asked = { tunnels: [{ caller, host, port: ofPort }] };
      const { lost } = await access()
        .checkTunnels(asked, { timeoutMs: answerLimitMs, signal })
        .catch((error: unknown) => {
          throw fromRpc(error);
        });
      return lost.length === 0;
    },
    async [Symbol.asyncDispose]() {
      await live[Symbol.asyncDispose]();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/**
 * What the VM's node came with. The token is told to that node alone, through its link; another one that knows it all the same is believed
 * nothing. Throws `unavailable` then, and why the node came with nothing. `nodeId` is empty where a controller of a version before has answered.
 */
function bound({ nodeId: from, came }: Dialled, nodeId: string, log: Log): TLSSocket {
  if (nodeId !== "" && from !== nodeId) {
    log.error("a node came with a token that another one was told", { node: from, meant: nodeId });
    const message = "another node than the VM's dialled in with what only that one was told; try again";
    throw new PitwallError("unavailable", message, { reason: "TUNNEL_FOREIGN" });
  }
  if (came instanceof PitwallError) throw came;
  return came;
}

/** As the controller sees it where sessions are recorded. */
function opensSsh({ target }: TunnelTarget, port: number): boolean {
  return target?.$case === "ssh" || (target?.$case === "tcp" && (target.value.port || port) === sshPort);
}

/** Who waits for its close would wait for ever. Throws `unavailable`. */
function refuseClosed(stream: TLSSocket): void {
  if (stream.destroyed)
    throw new PitwallError("unavailable", "the VM's node closed the way as soon as it was open; try again", { reason: "TUNNEL_CLOSED" });
}

/** Throws for a caller who does not hear it. */
function refuseGone(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new PitwallError("unavailable", "who wanted this way has gone", { reason: "CALLER_GONE" });
}

/** Whether the controller has certainly opened nothing. */
function isRefusal(error: unknown): boolean {
  return error instanceof PitwallError && !["unavailable", "deadline", "internal", "not-found"].includes(error.fault);
}

const digestOf = (token: string): string => createHash("sha256").update(token).digest("base64url");
