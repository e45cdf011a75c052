// The gateway's configuration.
import { hostPort, list, readConfig, secretFile } from "@pitwall/runtime";
import { z } from "zod";

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
});

/** Throws `invalid` with all faults. */
export function readGatewayConfig(env: NodeJS.ProcessEnv): Readonly<z.output<typeof schema>> {
  return readConfig(schema, env);
}
