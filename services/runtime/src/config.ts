// Configuration from PITWALL_* variables: parsed once, frozen, all faults reported together.
import { readFileSync } from "node:fs";
import { z } from "zod";
import { PitwallError } from "./errors.ts";

const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const unitBytes = { "": 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, K: 1e3, M: 1e6, G: 1e9, T: 1e12 } as const;

/** Milliseconds from `500ms`, `30s`, `5m`, `1h` or `1d`. */
export const duration = z.string().transform((text, context) => {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text);
  if (!match) {
    context.addIssue({ code: "custom", message: `expected a duration such as 500ms, 30s, 5m or 1h, got "${text}"` });
    return z.NEVER;
  }
  return Number(match[1]) * unitMs[match[2] as keyof typeof unitMs]; // the pattern admits only the keys
});

/** Bytes from `512Mi`, `4Gi`, `10G` or a plain number. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|K|M|G|T|)B?$/.exec(text);
  return match ? Math.floor(Number(match[1]) * unitBytes[match[2] as keyof typeof unitBytes]) : undefined;
}

/** Bytes, as {@link parseBytes} reads them. */
export const bytes = z.string().transform((text, context) => {
  const parsed = parseBytes(text);
  if (parsed === undefined) {
    context.addIssue({ code: "custom", message: `expected a size such as 512Mi or 4Gi, got "${text}"` });
    return z.NEVER;
  }
  return parsed;
});

/** `host:port`, `[v6]:port`; port 0 asks for a free one. */
export const hostPort = z.string().transform((text, context) => {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65535) {
    context.addIssue({ code: "custom", message: `expected HOST:PORT, got "${text}"` });
    return z.NEVER;
  }
  return { host: (match[1] ?? match[2]) as string, port }; // one of the two groups matched
});

export type HostPort = z.output<typeof hostPort>;

/** As {@link hostPort} reads it. */
export function hostPortText({ host, port }: HostPort): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Items separated by commas; blanks are dropped. */
export const list = z.string().transform((text) =>
  text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== ""),
);

/** The trimmed content of the file that is named. */
export const secretFile = z.string().transform((path, context) => {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    context.addIssue({ code: "custom", message: `cannot read the file: ${error instanceof Error ? error.message : String(error)}` });
    return z.NEVER;
  }
});

/** `true` or `false`. */
export const flag = z.enum(["true", "false"]).transform((text) => text === "true");

/** Reads a schema whose keys are environment variables. Throws one `invalid` error that lists every fault. Empty means unset. */
export function readConfig<S extends z.ZodObject>(schema: S, env: NodeJS.ProcessEnv): Readonly<z.output<S>> {
  const present = Object.fromEntries(Object.keys(schema.shape).flatMap((key) => (env[key] ? [[key, env[key]]] : [])));
  const result = schema.safeParse(present);
  if (result.success) return Object.freeze(result.data);
  const faults = result.error.issues.map((issue) => {
    const key = issue.path.join(".");
    return key in present ? `${key}: ${issue.message}` : `${key}: is required`;
  });
  throw new PitwallError("invalid", `configuration: ${faults.join("; ")}`, { reason: "INVALID_CONFIG" });
}

/** True for addresses that only this machine reaches. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}
