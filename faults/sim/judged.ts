// One schedule, run and judged.
import { judgeSim } from "../checkers/sim-checkers.ts";
import type { History } from "../observer/history.ts";
import { trafficFromMs, type Schedule } from "../schedule/schedule.ts";
import type { Verdict } from "../thread.ts";
import { runSchedule, type WorldParts } from "./world.ts";

/** etcd's rule: with less traffic than that before the first fault, a run proves nothing. */
const leastPerSecond = 5;

export async function runAndJudge(schedule: Schedule, parts: WorldParts): Promise<Verdict> {
  const history = await runSchedule(schedule, parts);
  return { seed: schedule.seed, isValid: hadTraffic(schedule, history), violations: judgeSim(history), struck: history.struck };
}

function hadTraffic({ faults, firstFaultMs }: Schedule, { calls }: History): boolean {
  const firstMs = faults[0]?.atMs ?? Infinity;
  const changes = calls.filter(({ kind, outcome, toMs }) => kind !== "get" && outcome === "ok" && toMs <= firstMs).length;
  return changes >= (leastPerSecond * (Math.min(firstMs, firstFaultMs) - trafficFromMs)) / 1_000;
}
