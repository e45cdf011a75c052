// Who may reach which VM, asked by gateways.
import {
  SshWay,
  type AuthorizeSshRequest,
  type AuthorizeSshResponse,
  type Caller,
  type CheckedTunnel,
  type CheckTunnelsResponse,
  type OpenTunnelRequest,
  type OpenTunnelResponse,
  type TunnelTarget,
} from "@pitwall/proto/pitwall/v1/access.ts";
import type { TunnelRequest } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { hostPort, invalid, PitwallError, type Failpoints, type Fault, type Log } from "@pitwall/runtime";
import { originOf } from "../mutation/mutations.ts";
import { noLink, type NodeLinks } from "../nodes/links.ts";
import type { RateLimit } from "../limits/rate.ts";
import type { Feed } from "../vm/feed.ts";
import type { Moves } from "../vm/moves.ts";
import { isUnlimited, loginsOf } from "../projects/logins.ts";
import { isAtLeast, type Principal, type ProjectRole } from "../projects/principal.ts";
import { reachVmInRole, vmNotFound } from "../projects/reach.ts";
import { ProjectEntity, SshKeyEntity, type ProjectRow, type VmRow } from "../store/entities.ts";
import type { EntityManager, Store } from "../store/store.ts";
import { keptKeys } from "../vm/own-keys.ts";
import { parseSshKey } from "../vm/ssh-keys.ts";
import { actBy, letsAct, mayGoOn, type Acting } from "./acting.ts";
import type { Authenticator } from "./authenticator.ts";
import { refuseLocked, refuseLockedUser } from "./locks.ts";
import { checkSessionId, OpenSessions } from "./open-sessions.ts";
import { calledFor, closedNow, notRunning } from "./refusals.ts";
import type { IngressGrants } from "./ingress-grants.ts";
import type { HostCertificates } from "./host-certificates.ts";
import { findByCertificate, findByGrant, findByHost, findByKey, ownerOfGuestKey, type Reaching } from "./reaching.ts";
import type { SshCertificates } from "./ssh-certificates.ts";
import { actsInGuest, checkUser, opensSsh, refuseUnread, wayOf } from "./way.ts";

/** How long a node may take to find another controller before a user is told. */
const handoverMs = 4_000;
const maxChecked = 500;
/** Of one question's ways; less than the store has connections, for others ask, too. */
const checkedAtOnce = 8;
/** No VM's id. */
const nobody = "00000000-0000-0000-0000-000000000000";
const endsTunnels: ReadonlySet<Fault> = new Set(["unauthenticated", "denied", "not-found"]);

export interface AccessParts {
  readonly store: Store;
  readonly links: NodeLinks;
  readonly authenticator: Authenticator;
  readonly feed: Pick<Feed, "subscribe">;
  readonly certificates: Pick<SshCertificates, "userNow" | "userAtLogin">;
  readonly hostCertificates: Pick<HostCertificates, "certified">;
  readonly grants: Pick<IngressGrants, "believe">;
  readonly moves: Pick<Moves, "wake">;
  readonly ways: Pick<RateLimit, "take">;
  readonly failpoints: Failpoints;
  readonly log: Log;
  /** The role that a method of the guest's API needs; undefined for what is no such method. */
  readonly leastFor: (method: string) => ProjectRole | undefined;
}

export class Access {
  readonly #store: Store;
  readonly #links: NodeLinks;
  readonly #authenticator: Authenticator;
  readonly #feed: AccessParts["feed"];
  readonly #certificates: AccessParts["certificates"];
  readonly #hostCertificates: AccessParts["hostCertificates"];
  readonly #grants: AccessParts["grants"];
  readonly #moves: AccessParts["moves"];
  readonly #ways: AccessParts["ways"];
  readonly #failpoints: Failpoints;
  readonly #log: Log;
  readonly #leastFor: AccessParts["leastFor"];
  readonly sessions: OpenSessions;

  constructor({
    store,
    links,
    authenticator,
    feed,
    certificates,
    hostCertificates,
    grants,
    moves,
    ways,
    failpoints,
    log,
    leastFor,
  }: AccessParts) {
    this.#store = store;
    this.#links = links;
    this.#authenticator = authenticator;
    this.#feed = feed;
    this.#certificates = certificates;
    this.#hostCertificates = hostCertificates;
    this.#grants = grants;
    this.#moves = moves;
    this.#ways = ways;
    this.#failpoints = failpoints;
    this.#log = log;
    this.#leastFor = leastFor;
    this.sessions = new OpenSessions(store);
  }

  async authorizeSsh({ sshPublicKey, sshCertificate, vm }: AuthorizeSshRequest): Promise<AuthorizeSshResponse> {
    const em = this.#store.read();
    if (sshCertificate.length > 0) {
      const user = this.#certificates.userNow(sshCertificate);
      await refuseLockedUser(em, user.subject);
      if (vm === "") return { subject: user.subject, vmId: "", sshHostKey: "" };
      const { row } = await findByCertificate(em, user, vm);
      await refuseLocked(em, row, user.subject);
      return { subject: user.subject, vmId: row.id, sshHostKey: row.sshHostKey };
    }
    if (vm === "") {
      const { fingerprint, line } = parseSshKey(sshPublicKey, "ssh_public_key");
      // A key that was given with a VM may jump as well: what it reaches is decided when it asks for a VM.
      const owner = (await em.findOne(SshKeyEntity, { fingerprint }))?.owner ?? (await ownerOfGuestKey(em, line));
      if (owner === undefined) throw new PitwallError("not-found", "this key is not known", { reason: "KEY_NOT_FOUND" });
      await refuseLockedUser(em, owner);
      return { subject: owner, vmId: "", sshHostKey: "" };
    }
    const { row, subject } = await findByKey(em, sshPublicKey, vm);
    await refuseLocked(em, row, subject);
    return { subject: row.owner, vmId: row.id, sshHostKey: row.sshHostKey };
  }

  /** Has the VM's node dial the gateway. A suspended VM is woken; one that is on its way up is waited for, until the signal aborts. */
  async openTunnel(request: OpenTunnelRequest, gatewayId: string, signal: AbortSignal): Promise<OpenTunnelResponse> {
    const { caller, vm, host, target, token, gatewayAddress, method, sessionId } = request;
    checkSessionId(sessionId);
    const sought = soughtPort(target, host);
    checkUser(request.sshUser);
    if (!target?.target) throw invalid("target", "is required");
    if (target.target.$case.startsWith("limited")) throw invalid("target", "is one that controllers alone ask for");
    if (!/^[A-Za-z0-9_-]{43}$/.test(token)) throw invalid("token", "must be 32 bytes in base64url");
    if (!hostPort.safeParse(gatewayAddress).success) throw invalid("gateway_address", "must be HOST:PORT");
    // Looking at a VM wakes none, and nobody wakes one whom its project's rules then turn away.
    const mayWake = async (sleeper: Reaching): Promise<boolean> => {
      if (target.target?.$case === "guestApi" && !isSession("guestApi", method)) return false;
      await this.#judge(request, target, sleeper);
      return true;
    };
    let isCounted = false;
    const reach = async (): Promise<Reaching> => {
      const reaching = await this.#reach(caller, { vm, host, method, port: sought });
      // Of whom a port is open to, a gateway counts the requests: a page that many read is no misuse.
      if (!isCounted && reaching.isOutsider !== true) this.#ways.take(reaching.actor);
      isCounted = true;
      return reaching;
    };
    const who = await this.#running(reach, mayWake, signal);
    const { row } = who;
    const { target: held, logins, user: sshUser, record, port, project } = await this.#judge(request, target, who);
    const isLogged = isSession(target.target.$case, method);
    if (isLogged) {
      const detail = { name: row.name, ...wayOf({ ...request, sshUser }) };
      const { actor, subject } = who;
      await this.sessions.begin({ id: sessionId, gatewayId, vmId: row.id, projectId: row.projectId, actor, subject, detail });
    }
    await this.#failpoints.at("tunnel.session.audited", row.id);
    // At the door the gateway compares the key itself. A bare name is of the personal project, and its user's alone.
    const isByName = who.actor === who.subject && project?.personalOf === who.subject;
    const coming = request.sshWay === SshWay.SSH_WAY_DOOR ? undefined : { row, subject: who.subject, isByName };
    const led = this.#hostCertificates.certified(held, coming);
    await this.#tunnel(row.nodeId, { vmId: row.id, epoch: row.epoch, target: led, token, gatewayAddress }, signal);
    const { id: vmId, epoch, nodeId, sshHostKey, owner: subject } = row;
    return { vmId, epoch, nodeId, sshHostKey, subject, port: port ?? 0, sessionId: isLogged ? sessionId : "", record, logins: [...logins] };
  }

  /** As what somebody goes on into the VM. Throws what their project's rules refuse. */
  async #judge(
    request: OpenTunnelRequest,
    target: TunnelTarget,
    { row, role, isOutsider }: Reaching,
  ): Promise<Acting & { record: boolean; port: number | undefined; project: ProjectRow | undefined }> {
    const sought = soughtPort(target, request.host);
    const port = sought === 0 ? row.httpPort : sought;
    const led: TunnelTarget = port === undefined ? target : { target: { $case: "tcp", value: { port } } };
    const vmName = isOutsider === true ? undefined : row.name;
    // Ways to other ports, of which there are many, cost no question.
    const project = letsAct(led, request.method) ? await this.#projectOf(row) : undefined;
    const record = opensSsh(led) && project?.recordSessions === true;
    if (record) refuseUnread(request, vmName);
    const allowed = project ? loginsOf(project, role) : [];
    // Who may not be anybody is not to find a key of theirs in a VM that was started when they might.
    const kept = project && !isUnlimited(allowed) ? await keptKeys(this.#store.read(), row) : undefined;
    return { ...actBy(request, led, { logins: allowed, kept, vmName }), record, port, project };
  }

  async #projectOf({ projectId }: VmRow): Promise<ProjectRow> {
    return this.#store.read().findOneOrFail(ProjectEntity, { id: projectId });
  }

  /** Which of these, open already, lead where their caller may no longer go, and of which nobody can say now. Throws when that is all. */
  async check(tunnels: readonly CheckedTunnel[]): Promise<Pick<CheckTunnelsResponse, "lost" | "unknown">> {
    if (tunnels.length > maxChecked) throw invalid("tunnels", `holds ${tunnels.length}; the limit is ${maxChecked}`);
    const lost: number[] = [];
    const unknown: number[] = [];
    let why: unknown;
    const left = tunnels.entries(); // each is taken by one of those who check
    const checkNext = async (): Promise<void> => {
      for (const [at, tunnel] of left)
        try {
          if (await this.#isLost(tunnel)) lost.push(at);
        } catch (error) {
          // What cannot be found out ends nothing, and keeps nobody from finding out about the others.
          unknown.push(at);
          why ??= error;
        }
    };
    await Promise.all(Array.from({ length: checkedAtOnce }, checkNext));
    if (unknown.length > 0 && unknown.length === tunnels.length) throw why;
    if (unknown.length > 0)
      this.#log.warn("of some ways into VMs nobody can say whether they may stay", { count: unknown.length, error: why });
    const inOrder = (all: number[]): number[] => all.toSorted((one, other) => one - other);
    return { lost: inOrder(lost), unknown: inOrder(unknown) };
  }

  /** Throws what keeps it from finding out. */
  async #isLost({ caller, vm, method, host, port, unrecordedSsh, logins }: CheckedTunnel): Promise<boolean> {
    try {
      const { row, role } = await this.#reach(caller, { vm, host, method, port: host === "" ? undefined : port }, true);
      if (!unrecordedSsh && logins.length === 0) return false;
      const project = await this.#projectOf(row);
      return (unrecordedSsh && project.recordSessions) || !mayGoOn(logins, loginsOf(project, role));
    } catch (error) {
      if (!(error instanceof PitwallError) || error.fault === "unavailable") throw error;
      return endsTunnels.has(error.fault);
    }
  }

  /** A link that moves to another controller is found there: it is asked for twice. */
  async #tunnel(nodeId: string, request: TunnelRequest, signal: AbortSignal): Promise<void> {
    const first = await this.#links.of(nodeId);
    try {
      if (!first) throw noLink();
      await first.tunnel(request, signal);
    } catch (error) {
      if (!(error instanceof PitwallError) || error.fault !== "unavailable") throw error;
      const again = await this.#links.whenThere(nodeId, AbortSignal.any([signal, AbortSignal.timeout(handoverMs)]));
      if (!again) throw error;
      await again.tunnel(request, signal);
    }
  }

  async #running(reach: () => Promise<Reaching>, mayWake: (who: Reaching) => Promise<boolean>, signal: AbortSignal): Promise<Reaching> {
    const changes = this.#feed.subscribe(); // before reading, so that nothing falls between
    const onAbort = (): void => changes.close();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      let who = await reach();
      if (who.row.desired === Desired.DESIRED_SUSPENDED && (await mayWake(who))) {
        await this.#moves.wake(who.row.id, who);
        who = await reach();
      }
      if (who.row.phase === Phase.PHASE_RUNNING) return who;
      if (!isComingUp(who.row)) throw notRunning(who);
      for await (const { vm } of changes) {
        if (vm.id !== who.row.id) continue;
        who = await reach();
        if (who.row.phase === Phase.PHASE_RUNNING) return who;
        if (!isComingUp(who.row)) throw notRunning(who);
      }
      throw new PitwallError("unavailable", `${calledFor(who)} is still starting; try again`, { reason: "VM_STARTING" });
    } finally {
      signal.removeEventListener("abort", onAbort);
      changes.close();
    }
  }

  /** `isOpen`: it was let in before, and may stay unless something was taken away. */
  async #reach(caller: Caller | undefined, sought: Sought, isOpen = false): Promise<Reaching> {
    const em = this.#store.read();
    const who = await this.#find(em, caller, sought, isOpen);
    await refuseLocked(em, who.row, who.subject).catch((error: unknown) => {
      throw who.isOutsider && error instanceof PitwallError ? closedNow() : error; // neither the name nor the reason is theirs to read
    });
    return who;
  }

  async #find(em: EntityManager, caller: Caller | undefined, sought: Sought, isOpen: boolean): Promise<Reaching> {
    const { host, method } = sought;
    const named = host === "" ? undefined : await findByHost(em, host);
    if (named && named.publicPorts.includes(sought.port || named.httpPort))
      return { row: named, role: "member", actor: "anybody", subject: "", isOutsider: true };
    // A name that is nobody's is looked up all the same, as an id that nobody has: what one may not see costs what is not there costs.
    const vm = host === "" ? sought.vm : (named?.id ?? nobody);
    switch (caller?.credential?.$case) {
      case "bearerToken": {
        const authorization = `Bearer ${caller.credential.value}`;
        const principal = await (isOpen ? this.#authenticator.stillIs(authorization) : this.#authenticator.authenticate(authorization));
        const least = (method === "" ? undefined : this.#leastFor(method)) ?? "member";
        holdToken(principal, method, least);
        const reached = await reachVmInRole(em, principal, vm, least).catch((error: unknown) => {
          throw host !== "" && error instanceof PitwallError && error.fault === "not-found" ? vmNotFound(host) : error;
        });
        return { ...reached, ...originOf(principal) };
      }
      case "sshPublicKey":
        return findByKey(em, caller.credential.value, vm);
      case "sshCertificate":
        return findByCertificate(em, this.#certificates.userAtLogin(caller.credential.value, isOpen), vm);
      case "ingressGrant":
        return findByGrant(em, this.#grants.believe(caller.credential.value), named, sought.port);
      case "anonymous":
        throw new PitwallError(
          "unauthenticated",
          "this address is open to whoever is let in: a bearer token does it, or an address from `pitwall url`",
          {
            reason: "TOKEN_MISSING",
          },
        );
      case undefined:
        throw invalid("caller", "is required");
    }
  }
}

/** What somebody wants to reach. */
interface Sought {
  readonly vm: string;
  /** In place of `vm`; empty: none. */
  readonly host: string;
  readonly method: string;
  /** 0: the VM's usual one; undefined: it is no port. */
  readonly port: number | undefined;
}

/** Throws `invalid`. */
function soughtPort(target: TunnelTarget | undefined, host: string): number | undefined {
  if (target?.target?.$case !== "tcp") {
    if (host !== "") throw invalid("host", "names a VM for a TCP target alone");
    return undefined;
  }
  const { port } = target.target.value;
  if (port > 65_535 || (port === 0 && host === "")) throw invalid("target.tcp.port", "must be 1 to 65535");
  return port;
}

/** What lets somebody act in a VM has an entry; reading its logs, and each request to one of its ports, has none. */
function isSession(target: string, method: string): boolean {
  return target === "ssh" || (target === "guestApi" && actsInGuest(method));
}

/** A token that was made for some methods opens a tunnel for no other, and none for a port. Throws `denied`. */
function holdToken({ token }: Principal, method: string, least: ProjectRole): void {
  if (!token) return;
  if (token.methods.size > 0 && !token.methods.has(method)) {
    throw new PitwallError("denied", `this API token is not for ${method === "" ? "ports of VMs" : method}`, { reason: "TOKEN_SCOPE" });
  }
  if (!isAtLeast(token.role, least))
    throw new PitwallError("denied", `the role of this API token is ${token.role}; this needs ${least}`, { reason: "ROLE_TOO_LOW" });
}

const onTheWayUp: ReadonlySet<number> = new Set([
  Phase.PHASE_PENDING,
  Phase.PHASE_PLACED,
  Phase.PHASE_PREPARING,
  Phase.PHASE_BOOTING,
  Phase.PHASE_RESUMING,
]);

/** A start that was asked for and not reported yet counts. */
function isComingUp({ desired, phase, generation, observedGeneration }: VmRow): boolean {
  return desired === Desired.DESIRED_RUNNING && (onTheWayUp.has(phase) || observedGeneration < generation);
}
