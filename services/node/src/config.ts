// The node's configuration.
import { availableParallelism, hostname, totalmem } from "node:os";
import { imageSourceSettings } from "@pitwall/oci";
import type { Resources } from "@pitwall/proto/pitwall/v1/node.ts";
import { bytes, duration, hostPort, readConfig, secretFile } from "@pitwall/runtime";
import { z } from "zod";
import { labelChoices } from "./labels.ts";
import { networkSchema } from "./network/settings.ts";

const longestImageMs = 24 * 3_600_000;
/** Kept for the host itself. */
const reservedMemBytes = 512 * 2 ** 20;

const ratio = z.coerce.number().min(0.01, "must be from 0.01 to 100").max(100, "must be from 0.01 to 100");

const lastUid = 2 ** 31 - 1;

/** `START:COUNT`. */
const uidRange = z.string().transform((text, context) => {
  const [, start, length] = /^(\d{1,10}):(\d{1,7})$/.exec(text) ?? [];
  const [first, count] = [Number(start), Number(length)];
  if (first >= 1_000 && count >= 1 && first + count - 1 <= lastUid) return { first, count };
  context.addIssue({ code: "custom", message: `expected START:COUNT, user ids from 1000 to ${lastUid}, got "${text}"` });
  return z.NEVER;
});

const schema = z.object({
  PITWALL_STATE_DIR: z.string().startsWith("/", "must be an absolute path"),
  PITWALL_LOG_LEVEL: z.enum(["debug", "info", "warn", "error"]).default("info"),
  PITWALL_JOIN: z.string().optional(),
  PITWALL_JOIN_FILE: secretFile.optional(),
  PITWALL_OPS_LISTEN: hostPort.optional(),
  PITWALL_NAME: z
    .string()
    .regex(/^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/, "must be lower-case letters, digits and dashes, beginning with a letter, at most 63")
    .default(defaultName),
  PITWALL_LABEL: labelChoices.prefault(""),
  PITWALL_DRIVER: z.enum(["auto", "firecracker", "qemu", "sim"]).default("auto"),
  PITWALL_FIRECRACKER_BIN: z.string().startsWith("/", "must be an absolute path").optional(),
  PITWALL_JAILER_BIN: z.string().startsWith("/", "must be an absolute path").optional(),
  PITWALL_JAIL_UIDS: uidRange.prefault("1900000000:4096"), // beyond what systemd and subordinate ids take, and positive as a signed number
  PITWALL_KERNEL: z.string().default("/var/lib/pitwall/vmlinux"),
  PITWALL_MODULES_DIR: z.string().default("/var/lib/pitwall/modules"),
  PITWALL_POWERUNIT: z.string().default("/var/lib/pitwall/powerunit"),
  PITWALL_FENCE: z.string().optional(),
  PITWALL_CACHE_DIR: z.string().optional(),
  PITWALL_CAPACITY_CPU_MILLIS: z.coerce.number().int().positive().optional(),
  PITWALL_CAPACITY_MEM: bytes.optional(),
  PITWALL_CAPACITY_DISK: bytes.optional(),
  PITWALL_OVERCOMMIT_CPU: ratio.prefault(4), // CPU time is shared; memory and disk are not
  PITWALL_OVERCOMMIT_MEM: ratio.prefault(1),
  PITWALL_OVERCOMMIT_DISK: ratio.prefault(1),
  PITWALL_BOOT_TIMEOUT: duration.prefault("2m"),
  PITWALL_SIMULATE: z
    .string()
    .refine((text) => text === "true" || text.startsWith("/"), "must be true, or the absolute path of a script")
    .optional(),
  PITWALL_COUNT: z.coerce.number().int().min(1).max(100_000).default(1),
  PITWALL_SEED: z.string().max(100).default("1"),
  PITWALL_TRACE: z.string().optional(),
  PITWALL_IMAGE_TIMEOUT: duration
    .refine((ms) => ms > 0 && ms <= longestImageMs, "must be more than nothing and at most 24h")
    .prefault("30m"),
  ...networkSchema,
  ...imageSourceSettings,
});

export type NodeConfig = ReturnType<typeof readNodeConfig>;

/** Throws `invalid` with all faults. */
export function readNodeConfig(env: NodeJS.ProcessEnv): Readonly<z.output<typeof schema>> {
  return readConfig(schema, env);
}

function defaultName(): string {
  const name = hostname()
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]/g, "-")
    .replace(/^[^a-z]+/, "")
    .slice(0, 63)
    .replace(/-+$/, "");
  return name || "node";
}

/** What VMs may have of a host with so much free disk: as much as the configuration says, or what is there times the overcommit. */
export function hostCapacity(config: NodeConfig, freeDiskBytes: number): Resources {
  const total = Math.min(totalmem(), process.constrainedMemory() || Infinity);
  const given = (there: number, times: number): bigint => BigInt(Math.floor(Math.max(0, there) * times));
  return {
    cpuMillis: BigInt(config.PITWALL_CAPACITY_CPU_MILLIS ?? given(availableParallelism() * 1000, config.PITWALL_OVERCOMMIT_CPU)),
    memBytes: BigInt(config.PITWALL_CAPACITY_MEM ?? given(total - reservedMemBytes, config.PITWALL_OVERCOMMIT_MEM)),
    diskBytes: BigInt(config.PITWALL_CAPACITY_DISK ?? given(freeDiskBytes, config.PITWALL_OVERCOMMIT_DISK)),
  };
}

/** Of each simulated node, where the configuration does not say: a large host. */
export function simulatedCapacity(config: NodeConfig): Resources {
  return {
    cpuMillis: BigInt(config.PITWALL_CAPACITY_CPU_MILLIS ?? 64_000),
    memBytes: BigInt(config.PITWALL_CAPACITY_MEM ?? 256 * 2 ** 30),
    diskBytes: BigInt(config.PITWALL_CAPACITY_DISK ?? 4 * 2 ** 40),
  };
}
