// The SSH door: lets in who has a key of the VM, and connects each connection to the SSH server in that VM.
import { createServer, type Socket } from "node:net";
import { listen, systemClock, type HostPort } from "@pitwall/runtime";
import ssh2, { type AuthContext, type Connection } from "ssh2";
import type { GatewayMetrics } from "../metrics.ts";
import type { Recordings } from "../recording/recordings.ts";
import type { Tunnels } from "../tunnels/tunnels.ts";
import { algorithms } from "./algorithms.ts";
import { authenticate, type AuthenticateParts } from "./authenticate.ts";
import { openForwards } from "./forwards.ts";
import type { SshKeyPair } from "./host-key.ts";
import { Account, type SshLimits } from "./limits.ts";
import { Penalties, type Offence } from "../penalties.ts";
import { openReverseForwards } from "./reverse-forwards.ts";
import { openSessions } from "./sessions.ts";
import { peerOf, sourceOf } from "../source.ts";
import { Principals } from "../web/principals.ts";
import type { Offences } from "../workers/messages.ts";
import { Startups, type Startup } from "./startups.ts";
import type { Login } from "./target.ts";
import { openVmConnection } from "./vm-connection.ts";

/** For a client to show what its sessions said last: told to disconnect, OpenSSH forgets that. */
const lastWordsMs = 200;
/** For it to hear that it is disconnected. */
const farewellMs = 500;

export interface SshParts extends AuthenticateParts {
  readonly hostKey: SshKeyPair;
  readonly limits: SshLimits;
  readonly tunnels: Tunnels;
  readonly recordings: Recordings;
  readonly metrics: GatewayMetrics;
  readonly offences: Offences;
}

export interface SshServer extends AsyncDisposable {
  readonly port: number;
  /** Takes no more connections; those that are there go on. */
  stop(): void;
}

/** Disposing it ends all connections. */
export async function openSshServer(at: HostPort, parts: SshParts): Promise<SshServer> {
  const { limits, metrics, offences } = parts;
  const visits = new Map<string, Visit>();
  const startups = new Startups<Visit>(limits.startups.from, limits.startups.full);
  const principals = new Principals(limits.connectionsPerPrincipal, () => metrics.refuse("ssh_connections"));
  const penalties = new Penalties(() => systemClock.monotonicMs());
  offences.onOther(({ source, offence }) => penalties.charge(source, offence));
  // The library listens to nothing: it tells of a connection only once the client has said something, so its sockets are ours.
  const ssh = new ssh2.Server(
    {
      ...{ hostKeys: [parts.hostKey.privateKey], algorithms, ident: "pitwall" },
      ...{ keepaliveInterval: 30_000, keepaliveCountMax: 4 },
    },
    (client, { ip, port }) => visits.get(peerOf({ remoteAddress: ip, remotePort: port }))?.greeted(client),
  );
  // Without Nagle's algorithm: the protocol asks and answers in small packets, each of which would wait for 40 ms.
  const server = createServer({ noDelay: true }, (socket) => {
    const { remoteAddress: address = "" } = socket;
    const source = sourceOf(address);
    if (penalties.isRefused(source)) {
      metrics.refuse("ssh_penalty");
      return void socket.destroy();
    }
    const charge = (offence: Offence): void => {
      if (limits.penaltyExempt.has(address)) return;
      penalties.charge(source, offence);
      offences.tell({ source, offence });
    };
    const peer = peerOf(socket);
    const visit = new Visit(socket, source, { ...parts, principals, charge, loggedIn: () => startups.ended(visit) });
    visits.set(peer, visit);
    metrics.enter("ssh_connections");
    socket.once("close", () => {
      if (visits.get(peer) === visit) visits.delete(peer);
      metrics.leave("ssh_connections");
      startups.ended(visit);
    });
    ssh.injectSocket(socket);
    const tooMany = startups.began(visit);
    if (!tooMany) return;
    metrics.refuse("ssh_startups");
    tooMany.cut("too many connections wait for a login");
  });
  const port = await listen(server, at, "gateway");
  const closed = new Promise<void>((resolve) => server.once("close", resolve));
  let isStopped = false;
  const stop = (): void => {
    if (!isStopped) server.close();
    isStopped = true;
  };
  return {
    port,
    stop,
    async [Symbol.asyncDispose]() {
      stop();
      for (const visit of visits.values()) visit.end("the gateway stops");
      await closed;
    },
  };
}

interface VisitParts extends SshParts {
  readonly principals: Principals;
  readonly charge: (offence: Offence) => void;
  readonly loggedIn: () => void;
}

/** One connection, from its socket to its end. */
class Visit implements Startup {
  readonly source: string;
  readonly #socket: Socket;
  readonly #parts: VisitParts;
  readonly #timers = new DisposableStack();
  readonly #sinceMs = systemClock.monotonicMs();
  #client: Connection | undefined;
  #account: Account | undefined;
  #login: Login | undefined;
  #requests = 0;
  #refused = 0;
  #isOneTooMany = false;

  constructor(socket: Socket, source: string, parts: VisitParts) {
    this.source = source;
    this.#socket = socket;
    this.#parts = parts;
    const { limits, charge } = parts;
    for (const limitMs of [limits.greetingMs, limits.loginMs]) this.#timers.use(systemClock.after(limitMs, () => this.#look()));
    socket.once("close", () => {
      this.#timers.dispose();
      if (!this.#account && !this.#isOneTooMany) charge(this.#refused > 0 ? "refused-login" : "no-login");
    });
  }

  isSilent(): boolean {
    return this.#socket.bytesRead === 0;
  }

  /** It has said what it speaks. */
  greeted(client: Connection): void {
    this.#client = client;
    client.on("error", (error) => this.#parts.log.debug("an SSH connection broke", { error }));
    client.on("authentication", (context) => {
      this.#authenticate(context).catch((error: unknown) => {
        this.#parts.log.warn("a login failed", { error });
        this.cut("its login failed");
      });
    });
    client.once("ready", () => {
      this.#parts.loggedIn();
      if (this.#login) this.#serve(client, this.#login);
    });
  }

  /** With a farewell. */
  end(why: string): void {
    this.#parts.log.debug("an SSH connection is ended", { why });
    this.#account?.endShown(why);
    setTimeout(() => this.#client?.end(), this.#account ? lastWordsMs : 0);
    setTimeout(() => this.#socket.destroy(), this.#client ? farewellMs : 0);
  }

  cut(why: string): void {
    this.#parts.log.debug("an SSH connection is cut", { why });
    this.#socket.destroy();
  }

  /** A client speaks at once; its user may have to find a passphrase. */
  #look(): void {
    const isInTime = this.#requests > 0 && systemClock.monotonicMs() - this.#sinceMs < this.#parts.limits.loginMs;
    if (this.#account || isInTime) return;
    this.#parts.charge("grace-exceeded");
    this.#parts.metrics.refuse("ssh_time");
    this.cut("it did not log in in time");
  }

  async #authenticate(context: AuthContext): Promise<void> {
    const { tries } = this.#parts.limits;
    // For a key that would do a client asks twice: whether it should sign, and then with the signature.
    if (this.#refused >= tries || ++this.#requests > 2 * tries) {
      this.#parts.metrics.refuse("ssh_tries");
      return this.end("too many tries to log in");
    }
    const outcome = await authenticate(context, this.#parts);
    if (outcome === "refused") this.#refused += context.method === "none" ? 0 : 1;
    if (typeof outcome === "string") return;
    try {
      this.#timers.defer(this.#parts.principals.enter(outcome.subject));
    } catch {
      this.#isOneTooMany = true;
      return this.end("its user has as many connections as one may");
    }
    this.#login = outcome;
    context.accept();
  }

  #serve(client: Connection, login: Login): void {
    const { limits, tunnels, charge } = this.#parts;
    const vm = openVmConnection(login.target, login.caller, tunnels);
    client.once("close", () => vm.close());
    const overran = (): void => {
      charge("overrun");
      this.#parts.metrics.refuse("ssh_overrun");
      this.cut("it sent more than it was granted");
    };
    const account = new Account({ limits, clock: systemClock, end: (why) => this.end(why), overran });
    this.#account = this.#timers.use(account);
    const parts = { ...this.#parts, login, vm, account };
    openSessions(client, parts);
    openForwards(client, parts);
    openReverseForwards(client, parts);
  }
}
