// Amounts as people write them: CPUs, bytes, durations, counts.
import { InvalidArgumentError } from "commander";

const unitBytes = { "": 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, K: 1e3, M: 1e6, G: 1e9, T: 1e12 } as const;
const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
const maxUint32 = 2 ** 32 - 1;

/** Thousandths of a CPU from `2`, `0.5` or `500m`. Throws `InvalidArgumentError`. */
export function parseCpuMillis(text: string): number {
  const match = /^(\d+)m$|^(\d+(?:\.\d{1,3})?)$/.exec(text);
  const millis = match?.[1] === undefined ? Math.round(Number(match?.[2]) * 1000) : Number(match[1]);
  if (!(millis > 0 && millis <= maxUint32)) throw new InvalidArgumentError("Expected CPUs such as 2, 0.5 or 500m.");
  return millis;
}

/** Bytes from `512Mi`, `4Gi`, `10G` or a plain number. Throws `InvalidArgumentError`. */
export function parseByteSize(text: string): bigint {
  const match = /^(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|K|M|G|T|)B?$/.exec(text);
  const bytes = match ? Math.floor(Number(match[1]) * unitBytes[match[2] as keyof typeof unitBytes]) : 0; // the pattern admits only the keys
  if (!(bytes > 0 && bytes <= Number.MAX_SAFE_INTEGER)) throw new InvalidArgumentError("Expected a size such as 512Mi or 4Gi.");
  return BigInt(bytes);
}

/** Milliseconds from `500ms`, `90s`, `5m` or `1h`. Throws `InvalidArgumentError`. */
export function parseDurationMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text);
  const ms = match ? Math.round(Number(match[1]) * unitMs[match[2] as keyof typeof unitMs]) : 0; // the pattern admits only the keys
  if (!(ms > 0 && ms < 2 ** 31)) throw new InvalidArgumentError("Expected a duration such as 90s, 5m or 1h.");
  return ms;
}

/** A whole number from 1 up. Throws `InvalidArgumentError`. */
export function parseCount(text: string): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (count < 1) throw new InvalidArgumentError("Expected a whole number from 1 up.");
  return count;
}
