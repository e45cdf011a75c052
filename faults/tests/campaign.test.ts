import { expect, test } from "vitest";
import { runCampaign } from "../campaign.ts";

const schedules = 1_000;
const workers = 2;
/** On two CPUs with nothing else to do; a machine may be four times as slow. */
const campaignMs = 150_000;
const slowest = 4;

test("the system keeps its word in a campaign of the layer sim", { timeout: slowest * campaignMs }, async () => {
  const lines: string[] = [];
  const say = (line: string): void => void lines.push(line);
  const result = await runCampaign({ schedules, seed: "ci", workers, path: process.env["PATH"] ?? "", say });
  expect(result.violations, lines.join("\n")).toEqual([]);
  expect(result.schedules).toBeGreaterThanOrEqual(schedules);
  expect(result.valid / result.schedules).toBeGreaterThanOrEqual(0.95);
});
