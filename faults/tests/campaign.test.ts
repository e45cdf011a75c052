import { expect, test } from "vitest";
import { runCampaign } from "../campaign.ts";

const schedules = 300;

test("the system keeps its word in a campaign of the layer sim", { timeout: 1_200_000 }, async () => {
  const lines: string[] = [];
  const say = (line: string): void => void lines.push(line);
  const result = await runCampaign({ schedules, seed: "ci", workers: 2, path: process.env["PATH"] ?? "", say });
  expect(result.violations, lines.join("\n")).toEqual([]);
  expect(result.schedules).toBeGreaterThanOrEqual(schedules);
  expect(result.valid / result.schedules).toBeGreaterThanOrEqual(0.95);
});
