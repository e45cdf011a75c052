// The gateway's composition root.
import cluster from "node:cluster";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { openVerifier, verifierOptions } from "@pitwall/auth";
import { openIdentity, type Identity } from "@pitwall/enroll";
import {
  failpointsFrom,
  hostPortText,
  logLevel,
  openLog,
  openOperations,
  PitwallError,
  runMain,
  systemClock,
  type HostPort,
  type OperationsParts,
  type Failpoints,
} from "@pitwall/runtime";
import {
  isCleartextToOthers,
  readGatewayConfig,
  readLoneConfig,
  sshLimits,
  tlsFiles,
  webLimits,
  type GatewayConfig,
  type LoneConfig,
} from "./config.ts";
import { openApi } from "./controller-api.ts";
import { openAccess, type ControllerAccess } from "./controller-link.ts";
import { GatewayMetrics } from "./metrics.ts";
import { Recordings } from "./recording/recordings.ts";
import { openHostKey } from "./ssh/host-key.ts";
import { warnOfSlowCryptography } from "./ssh/native.ts";
import { openSshServer } from "./ssh/server.ts";
import { openSessionEnds, type SessionEnds } from "./tunnels/session-ends.ts";
import { openTunnels } from "./tunnels/tunnels.ts";
import { openConsoleFiles } from "./web/console-files.ts";
import { deadlineOf } from "./web/deadlines.ts";
import { openDoor } from "./web/door.ts";
import { openIngress } from "./web/ingress.ts";
import { openLoneUpstream, type LoneUpstream } from "./web/lone-upstream.ts";
import { Principals } from "./web/principals.ts";
import { openWebServer } from "./web/server.ts";
import { upstreams } from "./web/upstreams.ts";
import { ownOffences, type Offences, type Ready } from "./workers/messages.ts";
import { openWorkers } from "./workers/primary.ts";
import { openFirstProcess } from "./workers/worker.ts";

const cliClientId = "pitwall-cli";

const log = openLog("gateway", logLevel(process.env["PITWALL_LOG_LEVEL"]));
await runMain(log, start);

async function start(): Promise<AsyncDisposable> {
  const workerIndex = cluster.isWorker ? Number(process.env["PITWALL_WORKER"]) : undefined;
  const lone = readLoneConfig(process.env);
  if (lone) return workerIndex === undefined ? startLone(lone) : workLone(lone);
  const failpoints = failpointsFrom(process.env, log); // before all else: where they are not allowed, nothing is to begin
  const config = readGatewayConfig(process.env);
  return workerIndex === undefined ? startWhole(config, failpoints) : work(config, failpoints, workerIndex);
}

/** The only process, or the first of several. */
async function startWhole(config: GatewayConfig, failpoints: Failpoints): Promise<AsyncDisposable> {
  if (isCleartextToOthers(config))
    log.warn("the web port is cleartext, as was asked for, and others than this machine reach it: tokens can be read on the way");
  warnOfSlowCryptography(log);
  await using stack = new AsyncDisposableStack();
  await mkdir(config.PITWALL_STATE_DIR, { recursive: true, mode: 0o700 });
  const identity = stack.use(
    await openIdentity({
      dir: join(config.PITWALL_STATE_DIR, "identity"),
      join: config.PITWALL_JOIN ?? config.PITWALL_JOIN_FILE,
      name: config.PITWALL_NAME,
      serverNames: [tunnelHost(config)],
      log,
    }),
  );
  const access = stack.use(openAccess(identity, log));
  const api = stack.use(openApi(identity, log));
  const ends = stack.use(openSessionEnds(() => access.client(), log));
  const at = config.PITWALL_OPS_LISTEN;
  const notReady = (): Promise<string | undefined> => api.notReady();
  if (config.PITWALL_WORKERS === 1) {
    const metrics = new GatewayMetrics();
    const doors = stack.use(await openDoors(config, { identity, access, ends, metrics, offences: ownOffences, failpoints }));
    announce({ ...doors.ready, ops: await operate({ at, notReady, registry: metrics.registry }, stack) });
  } else {
    await openHostKey(hostKeyFile(config)); // before all of them look for it
    const all = stack.use(await openWorkers({ count: config.PITWALL_WORKERS, installation: { identity, ends }, log }));
    announce({
      ...all.ready[0],
      tunnels: all.ready.map(({ tunnel }) => tunnel),
      ops: await operate({ at, notReady, metrics: () => all.metrics() }, stack),
    });
  }
  return stack.move();
}

/** One of several: serves, and asks the first process for what is one for the whole gateway. */
async function work(config: GatewayConfig, failpoints: Failpoints, index: number): Promise<AsyncDisposable> {
  const first = openFirstProcess();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => first.farewell());
  const identity = stack.use(await first.identity());
  const access = stack.use(openAccess(identity, log));
  const metrics = new GatewayMetrics();
  first.show(metrics.registry);
  stack.use(first.ends);
  const doors = stack.use(
    await openDoors(ofWorker(config, index), { identity, access, ends: first.ends, offences: first.offences, metrics, failpoints }),
  );
  first.ready(doors.ready);
  return stack.move();
}

/** Each worker has a port of its own for nodes: a node's answer must reach the one that waits for it. */
function ofWorker(config: GatewayConfig, index: number): GatewayConfig {
  const nth = <T extends HostPort | undefined>(at: T): T => (at && at.port !== 0 ? { ...at, port: at.port + index } : at);
  return {
    ...config,
    PITWALL_TUNNEL_LISTEN: nth(config.PITWALL_TUNNEL_LISTEN),
    PITWALL_TUNNEL_ADVERTISE: nth(config.PITWALL_TUNNEL_ADVERTISE),
  };
}

interface DoorsParts {
  readonly identity: Identity;
  readonly access: ControllerAccess;
  readonly ends: SessionEnds;
  readonly metrics: GatewayMetrics;
  readonly offences: Offences;
  readonly failpoints: Failpoints;
}

/** All that serves. Disposing it lets what is under way end. */
async function openDoors(config: GatewayConfig, parts: DoorsParts): Promise<AsyncDisposable & { readonly ready: Ready }> {
  const { identity, access, ends, metrics, offences, failpoints } = parts;
  await using stack = new AsyncDisposableStack();
  const hostKey = await openHostKey(hostKeyFile(config));
  const api = stack.use(openApi(identity, log));
  const door = openDoor(openVerifier(verifierOptions(config)));
  const advertise = (port: number): string =>
    hostPortText({ host: tunnelHost(config), port: config.PITWALL_TUNNEL_ADVERTISE?.port ?? port });
  const recordings = stack.use(new Recordings({ access: () => access.client(), clock: systemClock, log }));
  const tunnels = stack.use(
    await openTunnels(config.PITWALL_TUNNEL_LISTEN, {
      advertise,
      identity,
      access: () => access.client(),
      ends,
      staleMs: config.PITWALL_STALE_AFTER,
      failpoints,
      metrics,
      log,
    }),
  );
  const ssh = stack.use(
    await openSshServer(config.PITWALL_SSH_LISTEN, {
      ...{ hostKey, access: () => access.client(), tunnels, recordings, failpoints, metrics, offences, log },
      limits: sshLimits(config),
    }),
  );
  const discovery = {
    issuer: config.PITWALL_ISSUER,
    audience: config.PITWALL_AUDIENCE,
    clientId: cliClientId,
    sshHost: config.PITWALL_SSH_ADVERTISE?.host ?? config.PITWALL_SSH_LISTEN.host,
    sshPort: config.PITWALL_SSH_ADVERTISE?.port ?? ssh.port,
    sshHostKey: hostKey.publicLine,
    ...(config.PITWALL_INGRESS_DOMAIN !== undefined && { ingressDomain: config.PITWALL_INGRESS_DOMAIN }),
  };
  const principals = new Principals(config.PITWALL_MAX_CALLS_PER_PRINCIPAL, metrics.refuse);
  const open = upstreams(door, api, tunnels, principals);
  const web = stack.use(
    await openWebServer(config.PITWALL_LISTEN, {
      open,
      ingress: openIngress({
        ...{
          door,
          tunnels,
          issuer: config.PITWALL_ISSUER,
          principals,
          domain: config.PITWALL_INGRESS_DOMAIN,
          isSecure: tlsFiles(config) !== undefined,
        },
        idleMs: config.PITWALL_INGRESS_IDLE_TIMEOUT,
      }),
      discovery,
      files:
        config.PITWALL_CONSOLE_DIR === undefined ? undefined : await openConsoleFiles(config.PITWALL_CONSOLE_DIR, config.PITWALL_ISSUER),
      deadlineOf,
      corsOrigins: config.PITWALL_CORS_ORIGINS,
      tls: tlsFiles(config),
      limits: webLimits(config),
      metrics,
      log,
    }),
  );
  stack.defer(() => failpoints.at("gateway.draining"));
  stack.defer(() => ssh.stop()); // first: the web port takes its time for what is under way, and who logs in meanwhile would be cut off
  const kept = stack.move();
  return {
    ready: { web: web.port, ssh: ssh.port, tunnel: tunnels.port, sshHostKey: hostKey.publicLine },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** The web port alone, in front of any gRPC server: no controller, no tunnels, and nobody is asked who they are. */
async function startLone(config: LoneConfig): Promise<AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const upstream = stack.use(openLoneUpstream(config.upstream, log));
  const at = config.operations;
  const notReady = async (): Promise<undefined> => void (await upstream.reach());
  if (config.workers === 1) {
    const metrics = new GatewayMetrics();
    const web = stack.use(await openLoneDoor(config, upstream, metrics));
    announce({ port: web.port, web: web.port, ops: await operate({ at, notReady, registry: metrics.registry }, stack) });
  } else {
    const all = stack.use(await openWorkers({ count: config.workers, log }));
    announce({ ...all.ready[0], ops: await operate({ at, notReady, metrics: () => all.metrics() }, stack) });
  }
  return stack.move();
}

async function workLone(config: LoneConfig): Promise<AsyncDisposable> {
  const first = openFirstProcess();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => first.farewell());
  const metrics = new GatewayMetrics();
  first.show(metrics.registry);
  const upstream = stack.use(openLoneUpstream(config.upstream, log));
  const web = stack.use(await openLoneDoor(config, upstream, metrics));
  first.ready({ port: web.port, web: web.port });
  return stack.move();
}

async function openLoneDoor(
  { listen, corsOrigins, tls, limits }: LoneConfig,
  { open }: LoneUpstream,
  metrics: GatewayMetrics,
): ReturnType<typeof openWebServer> {
  return openWebServer(listen, { open, corsOrigins, takesAnyMetadata: true, tls, limits, metrics, log });
}

function hostKeyFile({ PITWALL_STATE_DIR }: GatewayConfig): string {
  return join(PITWALL_STATE_DIR, "ssh_host_key");
}

/** Throws `invalid` when nodes cannot be told. */
function tunnelHost({ PITWALL_TUNNEL_ADVERTISE: advertised, PITWALL_TUNNEL_LISTEN: at }: GatewayConfig): string {
  const { host } = advertised ?? at;
  if (host !== "0.0.0.0" && host !== "::") return host;
  throw new PitwallError("invalid", "configuration: PITWALL_TUNNEL_ADVERTISE: is required when tunnels are taken on all addresses", {
    reason: "INVALID_CONFIG",
  });
}

/** The port for operators; not ready from the moment on in which `stack` begins to be disposed. */
async function operate(parts: Omit<OperationsParts, "service">, stack: AsyncDisposableStack): Promise<number | undefined> {
  const operations = stack.use(await openOperations({ service: "gateway", ...parts }));
  stack.defer(async () => operations.stopping());
  return operations.port;
}

function announce(said: Ready): void {
  process.stdout.write(`${JSON.stringify({ ready: true, ...said })}\n`);
}
