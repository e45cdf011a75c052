// The controller's composition root: a whole controller, in whichever process.
import { randomUUID } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ServerCredentials } from "@grpc/grpc-js";
import { openVerifier, sshLineOf, verifierOptions } from "@pitwall/auth";
import { imageSourceOptions, openImageSources } from "@pitwall/oci";
import { AccessServiceDefinition } from "@pitwall/proto/pitwall/v1/access.ts";
import { AuditServiceDefinition } from "@pitwall/proto/pitwall/v1/audit.ts";
import { EnrollServiceDefinition } from "@pitwall/proto/pitwall/v1/enroll.ts";
import { GuestServiceDefinition } from "@pitwall/proto/pitwall/v1/guest.ts";
import { ImageServiceDefinition } from "@pitwall/proto/pitwall/v1/image.ts";
import { LinkServiceDefinition } from "@pitwall/proto/pitwall/v1/link.ts";
import { NodeServiceDefinition } from "@pitwall/proto/pitwall/v1/node.ts";
import { ProfileServiceDefinition } from "@pitwall/proto/pitwall/v1/profile.ts";
import { ProjectServiceDefinition } from "@pitwall/proto/pitwall/v1/project.ts";
import { RelayServiceDefinition } from "@pitwall/proto/pitwall/v1/relay.ts";
import { SessionServiceDefinition } from "@pitwall/proto/pitwall/v1/session.ts";
import { VmServiceDefinition } from "@pitwall/proto/pitwall/v1/vm.ts";
import {
  errorBoundary,
  isLoopback,
  keepalive,
  openOperations,
  PitwallError,
  hostPortText,
  portInUse,
  systemClock,
  writeFileAtomic,
  type Failpoints,
  type HostPort,
  type Log,
} from "@pitwall/runtime";
import { createServer, type Server } from "nice-grpc";
import { errorDetailsServerMiddleware } from "nice-grpc-error-details";
import { HealthDefinition, HealthServiceImpl } from "nice-grpc-server-health";
import { ServerReflection, ServerReflectionService } from "nice-grpc-server-reflection";
import { Access } from "./access/access.ts";
import { HostCertificates } from "./access/host-certificates.ts";
import { Authenticator } from "./access/authenticator.ts";
import { IngressGrants } from "./access/ingress-grants.ts";
import { LiveCalls } from "./access/live-calls.ts";
import { LockedUsers } from "./access/locked-users.ts";
import { Locks } from "./access/locks.ts";
import { RecordingIntake } from "./access/recording-intake.ts";
import { RecordingShelf } from "./access/recording-shelf.ts";
import { SessionList } from "./access/session-list.ts";
import { SshCertificates } from "./access/ssh-certificates.ts";
import { AuditLog } from "./audit/audit-log.ts";
import { startSequencer } from "./audit/sequencer.ts";
import { openSigningKey } from "./audit/signing-key.ts";
import type { KeyPair } from "./ca/ca.ts";
import { openInstallationCa } from "./ca/installation.ts";
import type { ControllerConfig } from "./config.ts";
import { Credentials } from "./credentials/credentials.ts";
import { holdToInstallationKey } from "./credentials/installation-key.ts";
import { openSecretBox } from "./credentials/secret-box.ts";
import { Enroll } from "./enroll/enroll.ts";
import { JoinTokens } from "./enroll/join-tokens.ts";
import { Membership } from "./enroll/membership.ts";
import { Images } from "./images/images.ts";
import { placedImages } from "./images/placed.ts";
import { openRateLimits } from "./limits/rate.ts";
import { Mutations } from "./mutation/mutations.ts";
import { openSigner } from "./mutation/signer.ts";
import { FleetChanges } from "./nodes/fleet-changes.ts";
import { Gateways } from "./nodes/gateways.ts";
import { HeldImages } from "./nodes/held-images.ts";
import { Leases } from "./nodes/leases.ts";
import { patienceOf } from "./nodes/liveness.ts";
import { NodeLinks } from "./nodes/links.ts";
import { NodeNews } from "./nodes/node-news.ts";
import { Nodes } from "./nodes/nodes.ts";
import { Roster } from "./nodes/roster.ts";
import { levelsOf, Sessions } from "./nodes/sessions.ts";
import { Members } from "./projects/members.ts";
import { Projects } from "./projects/projects.ts";
import { reconcileDueVms } from "./reconcile/due-vms.ts";
import { drainRounds } from "./reconcile/drain.ts";
import { keepHouse } from "./reconcile/housekeeping.ts";
import { reconcile } from "./reconcile/loop.ts";
import { openParking } from "./reconcile/parking.ts";
import { reconcileNodeLoss } from "./reconcile/node-loss.ts";
import { Profiles } from "./profile/profiles.ts";
import { openAdmission } from "./rpc/admission.ts";
import { auditService } from "./rpc/audit-service.ts";
import { databaseBoundary } from "./rpc/database-boundary.ts";
import { drain, OpenCalls } from "./rpc/draining.ts";
import { LostKeys } from "./rpc/lost-keys.ts";
import { refuseZeroBytes } from "./rpc/zero-bytes.ts";
import { Connections } from "./rpc/connections.ts";
import { callerInterceptor, Callers } from "./rpc/callers.ts";
import { authenticate, peerInterceptor } from "./rpc/identity.ts";
import { askOf, openHealth } from "./rpc/health.ts";
import { imageService } from "./rpc/image-service.ts";
import { linkService } from "./rpc/link-service.ts";
import { nodeService } from "./rpc/node-service.ts";
import { openPages } from "./rpc/page.ts";
import { projectService } from "./rpc/project-service.ts";
import { openRelay } from "./rpc/relay-client.ts";
import { relayService } from "./rpc/relay-service.ts";
import { sessionService } from "./rpc/session-service.ts";
import { accessService, enrollService, profileService } from "./rpc/small-services.ts";
import { guestLeast } from "./rpc/policy.ts";
import { vmService } from "./rpc/vm-service.ts";
import { openEmbeddedPostgres } from "./store/embedded-postgres.ts";
import { openNotices } from "./store/notices.ts";
import { openStore } from "./store/store.ts";
import { Tokens } from "./tokens/tokens.ts";
import { Assignments, dispatch, repeatPending } from "./vm/assignments.ts";
import { DeniedFlows } from "./vm/denied-flows.ts";
import { Feed } from "./vm/feed.ts";
import { FleetView } from "./vm/fleet-view.ts";
import { Placer } from "./vm/placer.ts";
import { Recorder } from "./vm/recorder.ts";
import { Reports } from "./vm/reports.ts";
import { Vms } from "./vm/vms.ts";

/** Nobody reads channelz, and it costs each connection memory and each message time. */
const noChannelz = { "grpc.enable_channelz": 0 };
const apiOptions = { ...keepalive, ...noChannelz, "grpc.max_receive_message_length": 4 * 2 ** 20 };
/**
 * What one message of a member may cost: an inventory of some thousand VMs. No pings from this end: nodes send some, and the kernel finds
 * connections whose peer has vanished.
 */
const linkOptions = { ...noChannelz, "grpc.max_receive_message_length": 2 ** 20 };

export interface Surroundings {
  readonly log: Log;
  readonly failpoints: Failpoints;
  /** Where commands are found, as in the environment; for the embedded PostgreSQL. */
  readonly path: string;
}

/** Disposing it drains. */
export interface Controller extends AsyncDisposable {
  /** `host:port` of the API, as it is advertised. */
  readonly api: string;
  /** The same of the link. */
  readonly link: string;
  /** Of operations; undefined when there is none. */
  readonly ops: number | undefined;
}

export async function startController(config: ControllerConfig, { log, failpoints, path }: Surroundings): Promise<Controller> {
  const stateDir = config.PITWALL_STATE_DIR;
  await using stack = new AsyncDisposableStack();
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const { url: databaseUrl, migratorUrl } = await databaseOf(config, stack, { log, path });
  const store = stack.use(await openStore(databaseUrl, undefined, migratorUrl));
  const caDir = config.PITWALL_CA_DIR ?? join(stateDir, "ca");
  const sessions = new Sessions();
  const operations = stack.use(
    await openOperations({
      at: config.PITWALL_OPS_LISTEN,
      service: "controller",
      levels: levelsOf(sessions),
      notReady: askOf(store),
    }),
  );
  const health = stack.use(openHealth(askOf(store), systemClock, log));
  const ca = await openInstallationCa(store, caDir);
  const { PITWALL_SECRETS_KEY_FILE: secretsKeyFile } = config;
  const box = await openSecretBox(secretsKeyFile ?? join(caDir, "secrets.key"), secretsKeyFile !== undefined);
  await holdToInstallationKey(store, box);
  const notices = stack.use(openNotices(databaseUrl, log));
  const verifier = openVerifier(verifierOptions(config));
  const images = openImageSources(imageSourceOptions(config));
  const roster = new Roster(store, randomUUID());
  const holder = (): { id: string; address: string } => ({ id: roster.id, address: roster.own.link });
  const { PITWALL_HEARTBEAT: heartbeatMs, PITWALL_LEASE: leaseMs } = config;
  const nodes = new Nodes({ store, sessions, holder, leaseMs });
  const signer = await openSigner(store);
  const feed = stack.use(await Feed.open({ store, notices, signer, log }));
  const recorder = new Recorder(feed);
  const mutations = new Mutations({ store, signer, clock: systemClock });
  const projects = new Projects({ store, mutations });
  const credentials = new Credentials({ store, mutations, box });
  await credentials.rewrap(log);
  const view = new FleetView({ store, nodes, sessions, feed, log });
  const placer = new Placer(view);
  const vms = new Vms({ store, mutations, nodes, placer, images, credentials, recorder, feed, signer, failpoints });
  const assignments = new Assignments({ store, credentials });
  const reports = new Reports({ store, sessions, recorder, failpoints, log });
  const { PITWALL_KEEP_ANSWERS: answersMs, PITWALL_KEEP_EVENTS: eventsMs, PITWALL_KEEP_RECORDINGS: recordingsMs } = config;
  stack.use(keepHouse(store, { answersMs, eventsMs, recordingsMs }, log));
  stack.use(startSequencer(store, await openSigningKey(caDir), log));
  const dispatching = dispatch({ feed, assignments, sessions, failpoints, log });
  const profiles = new Profiles({ store, mutations });
  const certificates = new SshCertificates({ store, mutations, authority: ca.sshAuthority, clock: systemClock });
  const hostCertificates = new HostCertificates({ authorityOf: ca.sshHostAuthority, clock: systemClock });
  const ingressGrants = new IngressGrants({ store, mutations, key: ca.ingressKey, clock: systemClock });
  const tokens = new Tokens({ store, mutations });
  const live = stack.use(new LiveCalls((ids) => tokens.valid(ids), log));
  const members = new Members({ store, mutations });
  const roles = stack.use(new LiveCalls((grants) => members.valid(grants), log));
  const { PITWALL_READS_PER_SECOND: reads, PITWALL_CHANGES_PER_SECOND: changes, PITWALL_WAYS_PER_SECOND: ways } = config;
  const limits = openRateLimits({ reads, changes, ways }, systemClock.monotonicMs);
  const authenticator = new Authenticator({ verifier, admins: config.PITWALL_ADMIN_SUBJECTS, projects, tokens });
  const locked = new LockedUsers({ store, clock: systemClock });
  const free = stack.use(new LiveCalls((subjects) => locked.free(subjects), log));
  const callers = new Callers();
  const admit = openAdmission({ authenticator, limits, locked });
  const guard = authenticate({ callers, live, membership: new Membership(store), locked, free });

  const names = serverNames(config.PITWALL_ADVERTISE, [config.PITWALL_LISTEN.host, config.PITWALL_LINK_LISTEN.host]);
  const keys = await ca.issueController(roster.id, names);
  const links = new NodeLinks({ store, sessions, relay: stack.use(openRelay(keys, ca.certificate)), ownId: roster.id });
  const descriptors = await readFile(new URL("../../../gen/descriptor.binpb", import.meta.url));
  // What a gateway lets through; EnrollService is for members alone.
  const publicServices = [
    VmServiceDefinition,
    NodeServiceDefinition,
    ImageServiceDefinition,
    ProfileServiceDefinition,
    ProjectServiceDefinition,
    SessionServiceDefinition,
    AuditServiceDefinition,
    GuestServiceDefinition,
  ];
  const lost = new LostKeys(descriptors);
  const enroll = new Enroll(store, ca, log);
  const joinTokens = new JoinTokens({ mutations, box, ca, roster });
  const news = new NodeNews({ store, sessions, notices, log });
  const pages = openPages(signer);
  const fleet = new FleetChanges({ mutations, nodes, placer, news });
  const open = new OpenCalls();
  const api = createServer({ ...apiOptions, interceptors: [callerInterceptor({ admit, callers, open, log })] })
    .use(errorDetailsServerMiddleware)
    .use(errorBoundary(log))
    .use(databaseBoundary)
    .use(guard)
    .use(refuseZeroBytes)
    .use(lost.refuse);
  const held = new Images({ sources: images, nodes, links, placed: () => placedImages(store) });
  const deniedFlows = new DeniedFlows({ store, links });
  api.add(lost.noticing(VmServiceDefinition), vmService({ vms, certificates, grants: ingressGrants, deniedFlows, roles, failpoints }));
  const gateways = new Gateways({ store, mutations });
  api.add(lost.noticing(NodeServiceDefinition), nodeService({ nodes, fleet, gateways, sessions, joinTokens, pages }));
  api.add(lost.noticing(ImageServiceDefinition), imageService({ sources: images, images: held, credentials, mutations, pages }));
  api.add(lost.noticing(ProfileServiceDefinition), profileService(profiles, hostCertificates));
  api.add(lost.noticing(ProjectServiceDefinition), projectService({ projects, members, tokens, credentials, pages }));
  const ofSessions = {
    sessions: new SessionList({ store, mutations }),
    locks: new Locks({ store, mutations }),
    shelf: new RecordingShelf({ store, mutations }),
  };
  api.add(lost.noticing(SessionServiceDefinition), sessionService({ ...ofSessions, pages }));
  api.add(AuditServiceDefinition, auditService(new AuditLog(store), pages));
  api.add(EnrollServiceDefinition, enrollService(enroll, roster));
  api.add(HealthDefinition, HealthServiceImpl(health.state));
  api.add(
    ServerReflectionService,
    ServerReflection(
      descriptors,
      publicServices.map(({ fullName }) => fullName),
    ),
  );

  const link = createServer({ ...linkOptions, interceptors: [peerInterceptor] })
    .use(errorDetailsServerMiddleware)
    .use(errorBoundary(log))
    .use(databaseBoundary)
    .use(guard)
    .use(refuseZeroBytes);
  const leases = new Leases({ store, news, heartbeatMs, leaseMs, beat: () => roster.seen(), failpoints, log });
  const connections = stack.use(new Connections());
  link.add(
    LinkServiceDefinition,
    linkService({
      ...{ reports, assignments, nodes, sessions, leases, heartbeatMs, leaseMs, failpoints, log },
      heldImages: new HeldImages({ store, log }),
      sshUserAuthorities: [sshLineOf(ca.sshAuthority)],
      controllers: () => roster.present(),
      receivedFrom: (peer) => connections.receivedFrom(peer),
    }),
  );
  link.add(RelayServiceDefinition, relayService(links));
  link.add(
    AccessServiceDefinition,
    accessService(
      new Access({
        store,
        links,
        authenticator,
        feed,
        certificates,
        hostCertificates,
        grants: ingressGrants,
        moves: vms.moves,
        ways: limits.ways,
        failpoints,
        log,
        leastFor: guestLeast,
      }),
      new RecordingIntake({
        store,
        recordingBytes: config.PITWALL_RECORDING_LIMIT,
        projectBytes: config.PITWALL_RECORDINGS_PER_PROJECT,
      }),
    ),
  );
  link.add(EnrollServiceDefinition, enrollService(enroll, roster));

  const advertised = names[0] ?? "127.0.0.1";
  const apiPort = await listen(api, config.PITWALL_LISTEN, serverCredentials(keys));
  stack.defer(async () => api.forceShutdown());
  const linkPort = await listen(link, config.PITWALL_LINK_LISTEN, serverCredentials(keys, ca.certificate));
  connections.follow(linkPort);
  const addresses = { api: `${advertised}:${apiPort}`, link: `${advertised}:${linkPort}` };
  await roster.enter(addresses);
  const patience = patienceOf(leaseMs);
  const parking = openParking({ store, mutations, log });
  stack.use(
    reconcile(
      {
        "node-loss": () => reconcileNodeLoss({ store, mutations, recorder, placer, parking, leases, news, patience, failpoints, log }),
        "due-vms": () => reconcileDueVms({ store, mutations, recorder, parking }),
        drain: drainRounds({ store, mutations, recorder, placer, parking, links, news, log }),
      },
      log,
    ),
  );
  const stop = new AbortController();
  const repeating = repeatPending({ assignments, sessions, failpoints, log }, stop.signal);
  const loops = [leases.run(stop.signal), news.run(stop.signal), view.run(stop.signal), repeating];
  stack.defer(async () => {
    stop.abort();
    await Promise.all(loops);
  });
  stack.defer(() => drain(link));
  stack.defer(async () => {
    await failpoints.at("lease.resigned").catch((error: unknown) => log.warn("a failpoint threw", { error }));
    sessions.drain("the controller stops");
  });
  stack.defer(async () => {
    const leaving = roster
      .leave()
      .catch((error: unknown) => log.warn("the others will only notice that this controller leaves", { error }));
    await feed[Symbol.asyncDispose](); // watches end with it
    await dispatching;
    // While nodes are still here, so that what was asked for before the end can be placed.
    await drain(api, open);
    await leaving;
  });
  stack.defer(async () => [operations, health].forEach((part) => part.stopping()));
  if (config.PITWALL_BOOTSTRAP_DIR !== undefined) await writeBootstrap(config.PITWALL_BOOTSTRAP_DIR, joinTokens, ca.certificate);
  const parts = stack.move();
  return { ...addresses, ops: operations.port, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}

/** What controllers work as, and what changes the schema. */
async function databaseOf(
  config: ControllerConfig,
  stack: AsyncDisposableStack,
  { log, path }: Pick<Surroundings, "log" | "path">,
): Promise<{ readonly url: string; readonly migratorUrl: string }> {
  const { PITWALL_DATABASE_URL: url, PITWALL_DATABASE_MIGRATOR_URL: migratorUrl } = config;
  if (url === undefined) {
    const embedded = stack.use(await openEmbeddedPostgres(join(config.PITWALL_STATE_DIR, "postgres"), path, log));
    return { url: embedded.runtimeUrl, migratorUrl: embedded.url };
  }
  if (migratorUrl === undefined)
    log.info("the schema is changed, if need be, by the role that the controller works with: PITWALL_DATABASE_MIGRATOR_URL names no other");
  return { url, migratorUrl: migratorUrl ?? url };
}

function serverNames(advertise: readonly string[], listenHosts: readonly string[]): string[] {
  const hosts = listenHosts.filter((host) => host !== "0.0.0.0" && host !== "::");
  const names = [...new Set([...advertise, ...hosts, ...(hosts.some(isLoopback) ? ["127.0.0.1", "localhost"] : [])])];
  if (names.length === 0) {
    throw new PitwallError("invalid", "configuration: PITWALL_ADVERTISE: is required when the controller listens on all addresses", {
      reason: "INVALID_CONFIG",
    });
  }
  return names;
}

/** With a CA, only its certificates may connect. */
function serverCredentials({ key, chain }: KeyPair, clientCa?: string): ServerCredentials {
  const pair = [{ private_key: Buffer.from(key), cert_chain: Buffer.from(chain) }];
  return clientCa === undefined
    ? ServerCredentials.createSsl(null, pair, false)
    : ServerCredentials.createSsl(Buffer.from(clientCa), pair, true);
}

async function listen(server: Server, { host, port }: HostPort, using: ServerCredentials): Promise<number> {
  try {
    return await server.listen(hostPortText({ host, port }), using);
  } catch (cause) {
    throw portInUse({ host, port }, "controller", cause);
  }
}

/** What a node and a gateway on the same host need to join by themselves. */
async function writeBootstrap(dir: string, joinTokens: JoinTokens, caCertificate: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  for (const role of ["node", "gateway"] as const) await writeFileAtomic(join(dir, `${role}.join`), await joinTokens.own(role));
  await writeFileAtomic(join(dir, "ca.pem"), caCertificate, 0o644);
}
