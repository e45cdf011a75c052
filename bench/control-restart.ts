// A controller that is killed and started again: how soon every node's session is back, its inventory taken, and its assignments told.
import { setTimeout as sleep } from "node:timers/promises";
import type { MeasuredFleet } from "./control-fleet.ts";
import { fleetSettings, startMeasured, type MeasuredController } from "./control-measured.ts";
import { round, type BenchOptions, type Metric } from "./measure.ts";

const goalS = 10;
/** The last step of a node's way back: it has compared all that it was assigned with what it has. */
const lastStep = "rejoin.ready";
const lookEveryMs = 50;
const limitMs = 600_000;

export async function measureRestart(
  { installation, controller, fleets, count }: MeasuredFleet,
  { say }: BenchOptions,
): Promise<{ controller: MeasuredController; metrics: Record<string, Metric> }> {
  const [vms] = await installation.query("select count(*)::int as n from vm");
  for (const fleet of fleets) await fleet.newSteps(lastStep);
  const begun = performance.now();
  controller.signal("SIGKILL");
  await controller.ended;
  const restarted = await startMeasured(installation, fleetSettings, controller);
  const listeningS = (performance.now() - begun) / 1000;
  let back = 0;
  while (back < count) {
    for (const fleet of fleets) back += await fleet.newSteps(lastStep);
    if (performance.now() - begun > limitMs) throw new Error(`after ${limitMs} ms, ${back} of ${count} nodes are back`);
    await sleep(lookEveryMs);
  }
  const value = round((performance.now() - begun) / 1000);
  say(`${count} nodes are reconciled ${value} s after the controller was killed; it listened after ${round(listeningS)} s`);
  const raw = { listening_s: round(listeningS), vms: Number(vms?.["n"] ?? 0) };
  return { controller: restarted, metrics: { reconcile_s: { value, unit: "s", goal: goalS, ok: value <= goalS, n: count, raw } } };
}
