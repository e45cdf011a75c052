// Wire values in people's words: phases, sizes, CPUs, times.
import { Desired, DrainAction, Health, NodeState, Parity, Phase, PullState, RestartPolicy, type Asked, type Exit } from "@pitwall/sdk";

/** `running`, `failed`, … */
export function phaseWord(phase: Phase): string {
  return wordOf(Phase, phase, "PHASE_");
}

/** `running`, `paused`, `suspended`, `stopped` or `deleted`. */
export function desiredWord(desired: Desired): string {
  return wordOf(Desired, desired, "DESIRED_");
}

/** `move`, `stop`, `none` or `stay`. */
export function drainActionWord(action: DrainAction): string {
  return wordOf(DrainAction, action, "DRAIN_ACTION_");
}

/** `ready`, `unreachable` or `lost`. */
export function nodeStateWord(state: NodeState): string {
  return wordOf(NodeState, state, "NODE_STATE_");
}

/** `honoured`, `adapted` or `ignored`. */
export function parityWord(parity: Parity): string {
  return wordOf(Parity, parity, "PARITY_");
}

/** `pulling`, `done` or `failed`. */
export function pullStateWord(state: PullState): string {
  return wordOf(PullState, state, "PULL_STATE_");
}

/** `starting`, `healthy` or `unhealthy`; empty when the image has no health check. */
export function healthWord(health: Health): string {
  return health === Health.HEALTH_UNSPECIFIED ? "" : wordOf(Health, health, "HEALTH_");
}

/** As `pitwall run --restart` takes it. */
export function restartWord(policy: RestartPolicy): string {
  if (policy === RestartPolicy.RESTART_POLICY_ALWAYS) return "always";
  return policy === RestartPolicy.RESTART_POLICY_ON_FAILURE ? "on-failure" : "no";
}

function wordOf(names: Readonly<Record<string, number>>, value: number, prefix: string): string {
  const name = Object.entries(names).find(([, number]) => number === value)?.[0];
  return name?.startsWith(prefix) === true ? name.slice(prefix.length).toLowerCase() : "unknown";
}

/** `2` or `500m`. */
export function cpuWord(millis: number | bigint): string {
  const value = Number(millis);
  return value % 1000 === 0 ? String(value / 1000) : `${value}m`;
}

/** `512Mi`, `1.5Gi`: the largest unit that leaves at least 1, with at most one decimal. */
export function byteWord(bytes: bigint): string {
  const units = ["Ki", "Mi", "Gi", "Ti"];
  let value = Number(bytes);
  let unit = "";
  for (const larger of units) {
    if (value < 1024) break;
    value /= 1024;
    unit = larger;
  }
  return `${Number.isInteger(value) || value >= 100 ? Math.round(value) : value.toFixed(1)}${unit}`;
}

/** `45s`, `12m`, `3h`, `5d`: how long ago, in one unit. */
export function ageWord(since: Date | undefined, nowMs: number): string {
  if (!since) return "";
  const seconds = Math.max(0, Math.floor((nowMs - since.getTime()) / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 2 * 3600) return `${Math.floor(seconds / 60)}m`;
  return seconds < 48 * 3600 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`;
}

/** `1.85 s` or `350 ms`. */
export function durationWord(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/** `STOP by ada at 2026-01-01T12:00:00.000Z`; empty: nobody asked. */
export function askedWord(asked: Asked | undefined): string {
  if (!asked) return "";
  const { why, actor, subject, time } = asked;
  const by = actor === subject ? actor : `${actor} of ${subject}`;
  return `${why} by ${by}${time ? ` at ${time.toISOString()}` : ""}`;
}

/** How a process ended. */
export function exitWord({ code, signal, outOfMemory }: Exit): string {
  const how = signal === 0 ? `exit code ${code}` : `signal ${signal}`;
  return outOfMemory ? `${how}, out of memory` : how;
}
