// How long a VM lives.
import { fromDuration, invalid } from "@pitwall/runtime";

const minMs = 1_000;
const maxMs = 10 * 366 * 24 * 60 * 60_000;

/** In milliseconds; undefined: for ever. Throws `invalid` naming the field. */
export function durationMs(field: string, ttl: { readonly seconds: bigint; readonly nanos: number } | undefined): number | undefined {
  if (!ttl) return undefined;
  const ms = fromDuration(ttl);
  if (!(ms >= minMs && ms <= maxMs)) throw invalid(field, `must be 1 second to 10 years, got ${ms / 1000} s`);
  return Math.round(ms);
}

/** Of the database's now. Null: never. Throws `invalid` naming the field. */
export function checkExpireTime(field: string, time: Date | undefined, nowMs: number): Date | null {
  if (!time) return null;
  const leftMs = time.getTime() - nowMs;
  if (!(leftMs >= minMs && leftMs <= maxMs)) throw invalid(field, "must be 1 second to 10 years from now, or absent: never");
  return time;
}
