// The gateway's composition root.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { openVerifier } from "@pitwall/auth";
import { openIdentity } from "@pitwall/enroll";
import { failpointsFrom, hostPortText, isLoopback, logLevel, openLog, openOperations, PitwallError, runMain } from "@pitwall/runtime";
import { readGatewayConfig, readLoneConfig, sshLimits, tlsFiles, webLimits, type LoneConfig } from "./config.ts";
import { openApi } from "./controller-api.ts";
import { openAccess } from "./controller-link.ts";
import { GatewayMetrics } from "./metrics.ts";
import { openHostKey } from "./ssh/host-key.ts";
import { hasCompiledCryptography } from "./ssh/native.ts";
import { openSshServer } from "./ssh/server.ts";
import { openSessionEnds } from "./tunnels/session-ends.ts";
import { openTunnels } from "./tunnels/tunnels.ts";
import { openDoor } from "./web/door.ts";
import { openIngress } from "./web/ingress.ts";
import { openLoneUpstream } from "./web/lone-upstream.ts";
import { openWebServer } from "./web/server.ts";
import { upstreams } from "./web/upstreams.ts";

const cliClientId = "pitwall-cli";

const log = openLog("gateway", logLevel(process.env["PITWALL_LOG_LEVEL"]));
await runMain(log, start);

async function start(): Promise<AsyncDisposable> {
  const lone = readLoneConfig(process.env);
  if (lone) return startLone(lone);
  const failpoints = failpointsFrom(process.env, log);
  const config = readGatewayConfig(process.env);
  const tls = tlsFiles(config);
  if (!tls && !isLoopback(config.PITWALL_LISTEN.host))
    log.warn(
      "the web port is cleartext and others than this machine reach it: tokens can be read on the way; set PITWALL_TLS_CERT and PITWALL_TLS_KEY",
    );
  if (!hasCompiledCryptography())
    log.warn("SSH runs several times slower than it could: its compiled cryptography is missing; see docs/ssh.md, Cryptography");
  const stateDir = config.PITWALL_STATE_DIR;
  await using stack = new AsyncDisposableStack();
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const tunnelHost = config.PITWALL_TUNNEL_ADVERTISE?.host ?? config.PITWALL_TUNNEL_LISTEN.host;
  if (tunnelHost === "0.0.0.0" || tunnelHost === "::") {
    throw new PitwallError("invalid", "configuration: PITWALL_TUNNEL_ADVERTISE: is required when tunnels are taken on all addresses", {
      reason: "INVALID_CONFIG",
    });
  }
  const identity = stack.use(
    await openIdentity({
      dir: join(stateDir, "identity"),
      join: config.PITWALL_JOIN ?? config.PITWALL_JOIN_FILE,
      name: config.PITWALL_NAME,
      serverNames: [tunnelHost],
      log,
    }),
  );
  const hostKey = await openHostKey(join(stateDir, "ssh_host_key"));
  const access = stack.use(openAccess(identity, log));
  const api = stack.use(openApi(identity, log));
  const metrics = new GatewayMetrics();
  const operations = stack.use(
    await openOperations({
      at: config.PITWALL_OPS_LISTEN,
      service: "gateway",
      registry: metrics.registry,
      notReady: async () => void (await api.session()),
    }),
  );
  const door = openDoor(openVerifier({ issuer: config.PITWALL_ISSUER, audience: config.PITWALL_AUDIENCE }));
  const address = (port: number): string => hostPortText({ host: tunnelHost, port: config.PITWALL_TUNNEL_ADVERTISE?.port ?? port });
  const ends = stack.use(openSessionEnds(() => access.client(), log));
  const tunnels = stack.use(
    await openTunnels(config.PITWALL_TUNNEL_LISTEN, {
      advertise: address,
      identity,
      access: () => access.client(),
      ends,
      failpoints,
      metrics,
      log,
    }),
  );
  const ssh = stack.use(
    await openSshServer(config.PITWALL_SSH_LISTEN, {
      ...{ hostKey, access: () => access.client(), tunnels, failpoints, metrics, log },
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
  };
  const open = upstreams(door, api, tunnels);
  const web = stack.use(
    await openWebServer(config.PITWALL_LISTEN, {
      open,
      ingress: openIngress(door, tunnels),
      discovery,
      corsOrigins: config.PITWALL_CORS_ORIGINS,
      tls,
      limits: webLimits(config),
      metrics,
      log,
    }),
  );
  stack.defer(async () => operations.stopping());
  stack.defer(() => failpoints.at("gateway.draining"));
  process.stdout.write(
    `${JSON.stringify({ ready: true, web: web.port, ssh: ssh.port, tunnel: tunnels.port, ops: operations.port, sshHostKey: hostKey.publicLine })}\n`,
  );
  return stack.move();
}

/** The web port alone, in front of any gRPC server: no controller, no tunnels, and nobody is asked who they are. */
async function startLone({ upstream, listen, corsOrigins, tls, operations: at, limits }: LoneConfig): Promise<AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const calls = stack.use(openLoneUpstream(upstream, log));
  const metrics = new GatewayMetrics();
  const operations = stack.use(
    await openOperations({ at, service: "gateway", registry: metrics.registry, notReady: async () => void (await calls.reach()) }),
  );
  const web = stack.use(await openWebServer(listen, { open: calls.open, corsOrigins, tls, limits, metrics, log }));
  stack.defer(async () => operations.stopping());
  process.stdout.write(`${JSON.stringify({ ready: true, port: web.port, web: web.port, ops: operations.port })}\n`);
  return stack.move();
}
