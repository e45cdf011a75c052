// The gateway's configuration.
import { flag, hostPort, isLoopback, list, PitwallError, readConfig, secretFile, type HostPort } from "@pitwall/runtime";
import { z } from "zod";
import type { CertificateFiles } from "./web/certificate.ts";

const schema = z.object({
  PITWALL_STATE_DIR: z.string().startsWith("/", "must be an absolute path"),
  PITWALL_LOG_LEVEL: z.enum(["debug", "info", "warn", "error"]).default("info"),
  PITWALL_LISTEN: hostPort.prefault("127.0.0.1:8080"),
  PITWALL_SSH_LISTEN: hostPort.prefault("127.0.0.1:2222"),
  PITWALL_SSH_ADVERTISE: hostPort.optional(),
  PITWALL_TUNNEL_LISTEN: hostPort.prefault("127.0.0.1:7443"),
  PITWALL_TUNNEL_ADVERTISE: hostPort.optional(),
  PITWALL_JOIN: z.string().optional(),
  PITWALL_JOIN_FILE: secretFile.optional(),
  PITWALL_NAME: z
    .string()
    .regex(/^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/, "must be lower-case letters, digits and dashes, beginning with a letter, at most 63")
    .default("gateway"),
  PITWALL_ISSUER: z.url(),
  PITWALL_AUDIENCE: z.string().default("pitwall"),
  PITWALL_CORS_ORIGINS: list.default([]),
  PITWALL_TLS_CERT: z.string().optional(),
  PITWALL_TLS_KEY: z.string().optional(),
});

const loopback = hostPort.refine(({ host }) => isLoopback(host), "must be a loopback address: nobody is asked for a token here");
const loneSchema = z.object({
  PITWALL_LOG_LEVEL: schema.shape.PITWALL_LOG_LEVEL,
  PITWALL_LISTEN: loopback.prefault("127.0.0.1:8080"),
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
}

/** Throws `invalid` with all faults. */
export function readGatewayConfig(env: NodeJS.ProcessEnv): GatewayConfig {
  return readConfig(schema, env);
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
