import { expect, test } from "vitest";
import { runDirected, runProcessTasks, whyNotIsolated, type ProcessCampaignOptions } from "../process/campaign.ts";
import { directedSeeds, someDirectedSeeds } from "../process/directed.ts";
import type { ProcessSchedule } from "../process/schedule.ts";

const schedules = 20;
const directed = 6;
const workers = 2;
/** On two CPUs with nothing else to do; a machine may be four times as slow. */
const [campaignMs, directedMs] = [210_000, 150_000];
const slowest = 4;

/** Nothing breaks, and somebody changes their mind when all seems to be over. */
const late: ProcessSchedule = {
  seed: "late",
  ops: [
    ...Array.from({ length: 7 }, (_, vm) => ({ kind: "create", atMs: 0, vm, moves: true }) as const),
    ...(["stop", "delete"] as const).map((kind, vm) => ({ kind, atMs: 4_000, vm, moves: false })),
  ],
  faults: [],
};

test("the system keeps its word in a campaign of real processes", { timeout: slowest * campaignMs }, async ({ skip }) => {
  const { lines, options } = await here(skip);
  const seeds = Array.from({ length: schedules }, (_, index) => `ci/${index}`);
  const result = await runProcessTasks([late, ...seeds], "ci", options);
  expect(result.violations, lines.join("\n")).toEqual([]);
  expect(result.schedules).toBe(schedules + 1);
  expect(result.valid / result.schedules).toBeGreaterThanOrEqual(0.95);
});

test("a process may end, stop or fail at a place that a seed chooses", { timeout: slowest * directedMs }, async ({ skip }) => {
  // Others each day: all of them come by in some weeks.
  const seed = process.env["PITWALL_DIRECTED_SEED"] ?? new Date().toISOString().slice(0, 10);
  const { lines, options } = await here(skip);
  const seeds = someDirectedSeeds(directed, seed);
  console.log(`PITWALL_DIRECTED_SEED=${seed}, of ${directedSeeds().length}: ${seeds.join(" ")}`);
  const result = await runDirected(seeds, options);
  // A place that was not come by is among the lines, and proves nothing: all must be struck.
  expect(result, lines.join("\n")).toEqual({ runs: directed, hit: directed, violations: [] });
});

type Skip = (why: string) => never;

async function here(skip: Skip): Promise<{ lines: string[]; options: Omit<ProcessCampaignOptions, "schedules" | "seed"> }> {
  const whyNot = await whyNotIsolated();
  if (whyNot !== undefined) {
    console.log(`skipped: ${whyNot}`);
    return skip(whyNot);
  }
  const lines: string[] = [];
  const say = (line: string): void => void lines.push(line);
  return { lines, options: { workers, path: process.env["PATH"] ?? "", say, logs: process.env["PITWALL_FAULT_LOGS"] ?? "" } };
}
