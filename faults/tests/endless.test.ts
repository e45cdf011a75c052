// A campaign whose schedules do not end: it does.
import { expect, test } from "vitest";
import { runSeeds } from "../campaign.ts";

test("a schedule that does not end in time is a violation that names its seed, and the next one is run", async () => {
  const lines: string[] = [];
  const say = (line: string): void => void lines.push(line);
  const seeds = ["endless/1", "endless/2"];
  const result = await runSeeds(seeds, "endless", { workers: 1, path: process.env["PATH"] ?? "", say, limitMs: 1 });
  const message = "the schedule did not end within 0.001 s";
  expect(result.violations).toEqual(seeds.map((seed) => ({ seed, invariant: "run", message })));
  expect(lines).toEqual(seeds.map((seed) => `VIOLATION seed ${seed}: run ${message} replay: npm run faults -- --replay ${seed}`));
});
