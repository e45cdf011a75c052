// Whether the controller takes the living for dead, and how soon it sees that an agent is dead or silent. What counts is the row that every
// controller reads.
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Installation } from "@pitwall/controller/tests/support/installation.ts";
import { makeProjects, openCreator } from "./control-create.ts";
import { startFleet, type Fleet, type MeasuredFleet } from "./control-fleet.ts";
import { median, percentile, round, type BenchOptions, type Metric } from "./measure.ts";

const goals = { killMs: 100, partitionMs: 3_000 } as const;
const stallMs = 1_000;
const betweenStallsMs = 2_000;
const lookEveryMs = 5;
/** After which a silent agent is given up on by this benchmark. */
const seenLimitMs = 60_000;

/** VMs come all the time while this or that process stands still for a second, and nobody is dead. */
export async function measureAlarms(
  { installation, controller, fleets, count }: MeasuredFleet,
  { quick, say }: BenchOptions,
): Promise<Record<string, Metric>> {
  const forMs = quick ? 3_000 : 600_000;
  await makeProjects(installation);
  await using creator = await openCreator(controller, installation.image);
  const before = await sessionsEnded(installation);
  const loading = creator.run(forMs, 8);
  let stalls = 0;
  const begun = performance.now();
  for (const stalled of alternating(controller, fleets)) {
    if (performance.now() - begun > forMs) break;
    stalled.signal("SIGSTOP");
    await sleep(stallMs);
    stalled.signal("SIGCONT");
    stalls++;
    await sleep(betweenStallsMs);
  }
  const perSecond = round(await loading);
  const ended = (await sessionsEnded(installation)) - before;
  say(`${ended} of ${count} sessions ended over ${stalls} stalls of ${stallMs} ms and ${perSecond} VMs/s`);
  const raw = { stalls, seconds: round(forMs / 1000), creates_per_second: perSecond };
  return { false_alarms: { value: ended, unit: "sessions", goal: 0, ok: ended === 0, n: count, raw } };
}

/** The controller, and each process of agents in its turn. */
function* alternating(controller: { signal(name: NodeJS.Signals): void }, fleets: readonly Fleet[]): Generator<Pick<Fleet, "signal">> {
  for (let n = 0; ; n++) {
    const fleet = fleets[n % fleets.length];
    if (fleet) yield fleet;
    yield controller;
  }
}

/** How many sessions have ended in this installation so far: each has left the next epoch, or its end. */
async function sessionsEnded({ query }: Installation): Promise<number> {
  const [row] = await query("select sum(epoch - case when end_time is null then 1 else 0 end)::int as ended from node_session");
  return Number(row?.["ended"] ?? 0);
}

/** Agents in processes of their own die, or stand still as behind a network that swallows everything. */
export async function measureSeen(
  { installation, ca, controller }: MeasuredFleet,
  { quick, say }: BenchOptions,
): Promise<Record<string, Metric>> {
  const each = quick ? 2 : 12;
  await using victims = new AsyncDisposableStack();
  const start = async (name: string): Promise<Fleet> =>
    victims.use(await startFleet(installation, ca, controller, { stateDir: join(installation.dir, name), name, count: 1 }));
  const names = (kind: string): string[] => Array.from({ length: each }, (_, n) => `${kind}-${n}`);
  // As many at once as there are, usually, processors to start them.
  const startAll = async (all: readonly string[]): Promise<Fleet[]> => {
    const started: Fleet[] = [];
    for (let from = 0; from < all.length; from += 2) started.push(...(await Promise.all(all.slice(from, from + 2).map(start))));
    return started;
  };
  const killed: number[] = [];
  for (const agent of await startAll(names("killed"))) killed.push(await seenAfter(installation, agent, "SIGKILL"));
  const silenced = await startAll(names("silent"));
  const silent = await Promise.all(silenced.map((agent) => seenAfter(installation, agent, "SIGSTOP")));
  say(`a killed agent is seen after ${Math.round(median(killed))} ms, a silent one after ${Math.round(median(silent))} ms`);
  const metric = (values: readonly number[], goal: number): Metric => {
    const value = round(Math.max(...values));
    return {
      value,
      p95: round(percentile(values, 0.95)),
      unit: "ms",
      goal,
      ok: value <= goal,
      n: values.length,
      raw: { median_ms: round(median(values)) },
    };
  };
  return { kill_seen_ms: metric(killed, goals.killMs), partition_seen_ms: metric(silent, goals.partitionMs) };
}

/** Milliseconds from the signal until every controller can read that the agent's session has ended. */
async function seenAfter({ query }: Installation, agent: Fleet, signal: NodeJS.Signals): Promise<number> {
  const node = `${agent.name}-1`;
  agent.signal(signal);
  const begun = performance.now();
  for (;;) {
    const [row] = await query("select end_time from node_session join node on node.id = node_id where name = $1", [node]);
    const tookMs = performance.now() - begun;
    if (row?.["end_time"] instanceof Date) return tookMs;
    if (tookMs > seenLimitMs) throw new Error(`that ${node} is gone was not seen within ${seenLimitMs} ms`);
    await sleep(lookEveryMs);
  }
}
