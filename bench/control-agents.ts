// A fleet of simulated nodes on one controller, from the first agent to the controller's restart.
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Ca } from "@pitwall/controller/src/ca/ca.ts";
import type { Installation } from "@pitwall/controller/tests/support/installation.ts";
import { measureAlarms, measureSeen } from "./control-alarms.ts";
import { startEcho, type EchoPeer } from "./control-echo.ts";
import { measureFanout, messageSizes } from "./control-fanout.ts";
import { startFleet, type Fleet, type FleetWanted, type MeasuredFleet } from "./control-fleet.ts";
import { makeIdentity } from "./control-identities.ts";
import { fleetSettings, startMeasured, type MeasuredController } from "./control-measured.ts";
import { measureRestart } from "./control-restart.ts";
import { round, type BenchOptions, type Metric } from "./measure.ts";

const goals = { kb: 64, cores: 0.25 } as const;
const kib = 1024;

interface Sizes {
  /** In the controller before the first figure is read: what any agents cost at all is not what each of them costs. */
  readonly first: number;
  readonly more: number;
  /** Agents in one process. */
  readonly perProcess: number;
  /** Of the bare peer; as many as ours first. */
  readonly bareMore: number;
  readonly idleMs: number;
}

const sizes = {
  quick: { first: 100, more: 200, perProcess: 200, bareMore: 200, idleMs: 2_500 },
  full: { first: 1_000, more: 9_000, perProcess: 1_500, bareMore: 3_000, idleMs: 30_000 },
} satisfies Record<string, Sizes>;

export async function measureAgents(installation: Installation, ca: Ca, options: BenchOptions): Promise<Record<string, Metric>> {
  const { quick, say } = options;
  const { first, more, perProcess, bareMore, idleMs } = quick ? sizes.quick : sizes.full;
  await using parts = new AsyncDisposableStack();
  const controller = await startMeasured(installation, fleetSettings);
  let current: MeasuredController = controller;
  parts.defer(() => current[Symbol.asyncDispose]());
  const fleets: Fleet[] = [];
  const add = async (name: string, count: number): Promise<Fleet> => {
    const wanted: FleetWanted = { stateDir: join(installation.dir, name), name, count };
    const fleet = parts.use(await startFleet(installation, ca, controller, wanted));
    fleets.push(fleet);
    return fleet;
  };
  await add("first", first);
  say(`${first} agents are linked`);

  const metrics: Record<string, Metric> = {};
  let bare: { readonly kb: number; readonly agents: number };
  {
    await using echo = await startEcho(await makeIdentity(ca), await ca.issueController("echo", ["127.0.0.1"]), messageSizes);
    await echo.connect(first);
    metrics["fanout_vs_echo"] = await measureFanout(installation, ca, controller, echo, first, options);
    bare = await bareMemory(echo, bareMore);
  }
  const before = await controller.taken();
  for (let left = more, n = 1; left > 0; left -= perProcess, n++) await add(`more-${n}`, Math.min(left, perProcess));
  say(`${first + more} agents are linked`);
  await sleep(quick ? 1_000 : 10_000);
  const after = await controller.taken();
  const kb = round((after.rssBytes - before.rssBytes) / kib / more);
  metrics["kb_per_agent"] = {
    value: kb,
    unit: "KiB",
    goal: goals.kb,
    ok: kb <= goals.kb,
    n: more,
    raw: {
      heap_kb_per_agent: round((after.heapBytes - before.heapBytes) / kib / more),
      bare_grpc_js_kb_per_agent: round(bare.kb),
      bare_agents: bare.agents,
      rss_mb: round(after.rssBytes / kib / kib),
    },
  };
  await sleep(idleMs);
  const idle = await controller.taken();
  const cores = round((idle.cpuMs - after.cpuMs) / (idle.atMs - after.atMs));
  metrics["heartbeat_cores"] = { value: cores, unit: "cores", goal: goals.cores, ok: cores <= goals.cores, n: first + more };
  say(`an agent takes ${kb} KiB (a bare grpc-js stream ${round(bare.kb)}), all of them ${cores} of a core`);

  const fleet: MeasuredFleet = { installation, ca, controller, fleets, count: first + more };
  Object.assign(metrics, await measureAlarms(fleet, options));
  Object.assign(metrics, await measureSeen(fleet, options));
  const restarted = await measureRestart(fleet, options);
  current = restarted.controller;
  return { ...metrics, ...restarted.metrics };
}

/** What a client costs a bare server, of `more` after those that are there. */
async function bareMemory(echo: EchoPeer, more: number): Promise<{ kb: number; agents: number }> {
  const before = await echo.memory();
  await echo.connect(more);
  const after = await echo.memory();
  return { kb: (after.rssBytes - before.rssBytes) / kib / more, agents: more };
}
