import { expect, test } from "vitest";
import { runProcessCampaign, whyNotIsolated } from "../process/campaign.ts";

const schedules = 20;

test("the system keeps its word in a campaign of real processes", { timeout: 600_000 }, async ({ skip }) => {
  const whyNot = await whyNotIsolated();
  if (whyNot !== undefined) {
    console.log(`skipped: ${whyNot}`);
    return skip(whyNot);
  }
  const lines: string[] = [];
  const say = (line: string): void => void lines.push(line);
  const result = await runProcessCampaign({ schedules, seed: "ci", workers: 2, path: process.env["PATH"] ?? "", say, logs: "" });
  expect(result.violations, lines.join("\n")).toEqual([]);
  expect(result.schedules).toBe(schedules);
  expect(result.valid / result.schedules).toBeGreaterThanOrEqual(0.8);
});
