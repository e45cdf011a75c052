// The controller's configuration.
import { issuerSettings } from "@pitwall/auth";
import { imageSourceSettings } from "@pitwall/oci";
import { bytes, duration, hostPort, list, readConfig } from "@pitwall/runtime";
import { z } from "zod";

/** Of one user or API token, on this controller; 0: no limit. */
const perSecond = z.coerce.number("must be a number").min(0, "must not be negative");

/** A retention; a second at least, since it is looked at that often. */
const kept = duration.refine((ms) => ms >= 1_000, "must be at least 1s");

const size = bytes.refine((all) => all > 0, "must be more than nothing");

const databaseUrl = z.string().regex(/^postgres(ql)?:\/\//, "must be a postgresql:// URL");

const schema = z.object({
  PITWALL_STATE_DIR: z.string().startsWith("/", "must be an absolute path"),
  PITWALL_LOG_LEVEL: z.enum(["debug", "info", "warn", "error"]).default("info"),
  PITWALL_LISTEN: hostPort.prefault("127.0.0.1:7000"),
  PITWALL_LINK_LISTEN: hostPort.prefault("127.0.0.1:7001"),
  PITWALL_OPS_LISTEN: hostPort.optional(),
  PITWALL_ADVERTISE: list.default([]),
  PITWALL_DATABASE_URL: databaseUrl.optional(),
  PITWALL_DATABASE_MIGRATOR_URL: databaseUrl.optional(),
  ...issuerSettings,
  PITWALL_ADMIN_SUBJECTS: list.default([]),
  PITWALL_SECRETS_KEY_FILE: z.string().startsWith("/", "must be an absolute path").optional(),
  PITWALL_READS_PER_SECOND: perSecond.prefault("200"),
  PITWALL_CHANGES_PER_SECOND: perSecond.prefault("100"),
  PITWALL_WAYS_PER_SECOND: perSecond.prefault("200"),
  ...imageSourceSettings,
  PITWALL_BOOTSTRAP_DIR: z.string().optional(),
  PITWALL_CA_DIR: z.string().startsWith("/", "must be an absolute path").optional(),
  PITWALL_KEEP_ANSWERS: kept.prefault("24h"),
  PITWALL_KEEP_EVENTS: kept.prefault("24h"),
  PITWALL_RECORDING_LIMIT: size.prefault("64Mi"),
  PITWALL_RECORDINGS_PER_PROJECT: size.prefault("4Gi"),
  PITWALL_KEEP_RECORDINGS: kept.prefault("30d"),
  PITWALL_HEARTBEAT: duration.prefault("1s"),
  PITWALL_LEASE: duration.prefault("10s"),
});

export type ControllerConfig = Readonly<z.output<typeof schema>>;

/** Throws `invalid` with all faults. */
export function readControllerConfig(env: NodeJS.ProcessEnv): ControllerConfig {
  return readConfig(schema, env);
}
