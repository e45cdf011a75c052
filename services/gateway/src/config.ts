// The gateway's configuration.
import { availableParallelism } from "node:os";
import { issuerSettings } from "@pitwall/auth";
import {
  bytes,
  duration,
  flag,
  hostPort,
  isLoopback,
  list,
  messageChain,
  PitwallError,
  readConfig,
  secretFile,
  type HostPort,
} from "@pitwall/runtime";
import { z } from "zod";
import type { SshLimits } from "./ssh/limits.ts";
import { networks } from "./source.ts";
import type { CertificateFiles } from "./web/certificate.ts";
import { defaultLimits, type WebLimits } from "./web/limits.ts";

const maxWorkers = 64;
const count = z.coerce.number().int("must be a whole number").min(1, "must be at least 1");

const size = bytes.refine((all) => all > 0, "must be more than nothing");
const time = duration.refine((ms) => ms >= 100 && ms <= 86_400_000, "must be from 100ms to 1d");

const networkList = list.transform((texts, context) => {
  try {
    return networks(texts);
  } catch (error) {
    context.addIssue({ code: "custom", message: messageChain(error) });
    return z.NEVER;
  }
});

/** Of the web port. */
const limitSettings = {
  PITWALL_PENALTY_EXEMPT: networkList.prefault("127.0.0.0/8,::1"),
  PITWALL_MAX_CONNECTIONS: count.default(defaultLimits.connections),
  PITWALL_MAX_CONNECTIONS_PER_SOURCE: count.default(defaultLimits.connectionsPerSource),
  PITWALL_MAX_CALLS: count.default(defaultLimits.calls),
  PITWALL_MAX_CALLS_PER_SOURCE: count.default(defaultLimits.callsPerSource),
  PITWALL_MAX_CALLS_PER_CONNECTION: count.default(defaultLimits.callsPerConnection),
  PITWALL_MAX_MESSAGE: size.prefault(`${defaultLimits.messageBytes}`),
  PITWALL_MAX_CALL: size.prefault(`${defaultLimits.callBytes}`),
  PITWALL_MAX_HEADERS: size.prefault(`${defaultLimits.headerBytes}`),
  PITWALL_HEADERS_TIMEOUT: time.prefault(`${defaultLimits.headersMs}ms`),
  PITWALL_REQUEST_TIMEOUT: time.prefault(`${defaultLimits.requestMs}ms`),
  PITWALL_IDLE_TIMEOUT: time.prefault(`${defaultLimits.idleMs}ms`),
};

/** Processes that serve. */
const workers = z.string().transform((text, context) => {
  const number = text === "auto" ? Math.min(availableParallelism(), maxWorkers) : Number(text);
  if (Number.isInteger(number) && number >= 1 && number <= maxWorkers) return number;
  context.addIssue({ code: "custom", message: `must be a whole number from 1 to ${maxWorkers}, or auto, got "${text}"` });
  return z.NEVER;
});

/** `FROM:FULL`. */
const startups = z.string().transform((text, context) => {
  const [, from, full] = /^(\d{1,6}):(\d{1,6})$/.exec(text) ?? [];
  if (from === undefined || Number(from) < 1 || Number(full) < Number(from)) {
    context.addIssue({ code: "custom", message: `expected FROM:FULL, two numbers of which the second is no smaller, got "${text}"` });
    return z.NEVER;
  }
  return { from: Number(from), full: Number(full) };
});

const schema = z.object({
  PITWALL_STATE_DIR: z.string().startsWith("/", "must be an absolute path"),
  PITWALL_LOG_LEVEL: z.enum(["debug", "info", "warn", "error"]).default("info"),
  PITWALL_LISTEN: hostPort.prefault("127.0.0.1:8080"),
  PITWALL_OPS_LISTEN: hostPort.optional(),
  PITWALL_WORKERS: workers.prefault("1"),
  ...limitSettings,
  PITWALL_MAX_CALLS_PER_PRINCIPAL: count.default(500),
  PITWALL_STALE_AFTER: time.prefault("5m"),
  PITWALL_SSH_LISTEN: hostPort.prefault("127.0.0.1:2222"),
  PITWALL_SSH_ADVERTISE: hostPort.optional(),
  PITWALL_SSH_GREETING_TIMEOUT: duration.prefault("10s"),
  PITWALL_SSH_LOGIN_TIMEOUT: duration.prefault("60s"),
  PITWALL_SSH_TRIES: count.default(6),
  PITWALL_SSH_STARTUPS: startups.prefault("50:100"),
  PITWALL_SSH_PENALTY_EXEMPT: networkList.prefault("127.0.0.0/8,::1"),
  PITWALL_SSH_CONNECTIONS_PER_PRINCIPAL: count.default(500),
  PITWALL_SSH_SESSIONS: count.default(10),
  PITWALL_SSH_CHANNELS: count.default(32),
  PITWALL_SSH_IDLE_TIMEOUT: duration.prefault("30m"),
  PITWALL_SSH_MAX_DURATION: duration.prefault("0s"),
  PITWALL_TUNNEL_LISTEN: hostPort.prefault("127.0.0.1:7443"),
  PITWALL_TUNNEL_ADVERTISE: hostPort.optional(),
  PITWALL_JOIN: z.string().optional(),
  PITWALL_JOIN_FILE: secretFile.optional(),
  PITWALL_NAME: z
    .string()
    .regex(/^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/, "must be lower-case letters, digits and dashes, beginning with a letter, at most 63")
    .default("gateway"),
  ...issuerSettings,
  PITWALL_INGRESS_DOMAIN: z
    .string()
    .regex(/^(?=.{1,180}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/, "must be a DNS name in lower case")
    .optional(),
  PITWALL_INGRESS_IDLE_TIMEOUT: time.prefault("5m"),
  PITWALL_CONSOLE_DIR: z.string().startsWith("/", "must be an absolute path").optional(),
  PITWALL_CORS_ORIGINS: list.default([]),
  PITWALL_TLS_CERT: z.string().optional(),
  PITWALL_TLS_KEY: z.string().optional(),
  PITWALL_INSECURE_CLEARTEXT: flag.default(false),
});

const loopback = hostPort.refine(({ host }) => isLoopback(host), "must be a loopback address: nobody is asked for a token here");
const loneSchema = z.object({
  PITWALL_LOG_LEVEL: schema.shape.PITWALL_LOG_LEVEL,
  PITWALL_LISTEN: loopback.prefault("127.0.0.1:8080"),
  PITWALL_OPS_LISTEN: schema.shape.PITWALL_OPS_LISTEN,
  PITWALL_WORKERS: schema.shape.PITWALL_WORKERS,
  ...limitSettings,
  PITWALL_CORS_ORIGINS: schema.shape.PITWALL_CORS_ORIGINS,
  PITWALL_TLS_CERT: schema.shape.PITWALL_TLS_CERT,
  PITWALL_TLS_KEY: schema.shape.PITWALL_TLS_KEY,
  PITWALL_UPSTREAM: loopback,
  PITWALL_INSECURE_NO_AUTH: flag.default(false),
});

export type GatewayConfig = Readonly<z.output<typeof schema>>;

/** A gateway without an installation: a listener in front of a gRPC server. */
export interface LoneConfig {
  readonly upstream: HostPort;
  readonly listen: HostPort;
  readonly corsOrigins: readonly string[];
  readonly tls: CertificateFiles | undefined;
  readonly operations: HostPort | undefined;
  readonly workers: number;
  readonly limits: WebLimits;
}

/**
 * Throws `invalid` with all faults, and for a web port that others than this machine reach in cleartext, unless that is said to be meant: only who
 * runs the gateway knows whether something before it speaks TLS.
 */
export function readGatewayConfig(env: NodeJS.ProcessEnv): GatewayConfig {
  const config = readConfig(schema, env);
  if (isCleartextToOthers(config) && !config.PITWALL_INSECURE_CLEARTEXT) {
    throw new PitwallError(
      "invalid",
      "configuration: PITWALL_LISTEN: others than this machine reach the web port, and tokens can be read on the way: name a certificate and its key with --tls-cert and --tls-key (PITWALL_TLS_CERT, PITWALL_TLS_KEY), or say --insecure-cleartext (PITWALL_INSECURE_CLEARTEXT=true) if that is meant",
      { reason: "INVALID_CONFIG" },
    );
  }
  return config;
}

export function isCleartextToOthers(config: GatewayConfig): boolean {
  return tlsFiles(config) === undefined && !isLoopback(config.PITWALL_LISTEN.host);
}

/** Undefined when no upstream is named: then it is an installation's gateway. Throws `invalid` with all faults. */
export function readLoneConfig(env: NodeJS.ProcessEnv): LoneConfig | undefined {
  if (!env["PITWALL_UPSTREAM"] && !env["PITWALL_INSECURE_NO_AUTH"]) return undefined;
  const config = readConfig(loneSchema, env);
  if (!config.PITWALL_INSECURE_NO_AUTH) {
    throw new PitwallError(
      "invalid",
      "configuration: PITWALL_UPSTREAM: whoever reaches this gateway reaches the upstream, without a token: say --insecure-no-auth (PITWALL_INSECURE_NO_AUTH=true) if that is meant",
      { reason: "INVALID_CONFIG" },
    );
  }
  return {
    upstream: config.PITWALL_UPSTREAM,
    listen: config.PITWALL_LISTEN,
    corsOrigins: config.PITWALL_CORS_ORIGINS,
    tls: tlsFiles(config),
    operations: config.PITWALL_OPS_LISTEN,
    workers: config.PITWALL_WORKERS,
    limits: webLimits(config),
  };
}

export function webLimits(config: Pick<GatewayConfig, keyof typeof limitSettings>): WebLimits {
  return {
    connections: config.PITWALL_MAX_CONNECTIONS,
    connectionsPerSource: config.PITWALL_MAX_CONNECTIONS_PER_SOURCE,
    calls: config.PITWALL_MAX_CALLS,
    callsPerSource: config.PITWALL_MAX_CALLS_PER_SOURCE,
    callsPerConnection: config.PITWALL_MAX_CALLS_PER_CONNECTION,
    messageBytes: config.PITWALL_MAX_MESSAGE,
    callBytes: config.PITWALL_MAX_CALL,
    headerBytes: config.PITWALL_MAX_HEADERS,
    headersMs: config.PITWALL_HEADERS_TIMEOUT,
    requestMs: config.PITWALL_REQUEST_TIMEOUT,
    idleMs: config.PITWALL_IDLE_TIMEOUT,
    penaltyExempt: config.PITWALL_PENALTY_EXEMPT,
  };
}

export function sshLimits(config: GatewayConfig): SshLimits {
  return {
    greetingMs: config.PITWALL_SSH_GREETING_TIMEOUT,
    loginMs: config.PITWALL_SSH_LOGIN_TIMEOUT,
    tries: config.PITWALL_SSH_TRIES,
    startups: config.PITWALL_SSH_STARTUPS,
    penaltyExempt: config.PITWALL_SSH_PENALTY_EXEMPT,
    connectionsPerPrincipal: config.PITWALL_SSH_CONNECTIONS_PER_PRINCIPAL,
    sessions: config.PITWALL_SSH_SESSIONS,
    channels: config.PITWALL_SSH_CHANNELS,
    idleMs: config.PITWALL_SSH_IDLE_TIMEOUT,
    durationMs: config.PITWALL_SSH_MAX_DURATION,
  };
}

/** The web port's, if it has any. Throws `invalid` for one without the other. */
export function tlsFiles({
  PITWALL_TLS_CERT: certificate,
  PITWALL_TLS_KEY: key,
}: Pick<GatewayConfig, "PITWALL_TLS_CERT" | "PITWALL_TLS_KEY">): CertificateFiles | undefined {
  if (certificate === undefined && key === undefined) return undefined;
  if (certificate !== undefined && key !== undefined) return { certificate, key };
  throw new PitwallError("invalid", "configuration: PITWALL_TLS_CERT and PITWALL_TLS_KEY: one is there without the other", {
    reason: "INVALID_CONFIG",
  });
}
