// What the observers of the layer sim see of one run: a judge of nothing would find nothing.
import { expect, test } from "vitest";
import { makeSchedule } from "../schedule/schedule.ts";
import { openInstallation } from "../sim/installation.ts";
import { openParts } from "../sim/parts.ts";
import { runSchedule } from "../sim/world.ts";

test(
  "of a run is seen what was asked, written, run, watched and said, by whom, and how much there was of it",
  { timeout: 120_000 },
  async () => {
    await using installation = await openInstallation(process.env["PATH"] ?? "");
    await using parts = await openParts(installation);
    const seen = await runSchedule({ ...makeSchedule("observed/1", "large"), nodes: 2, faults: [] }, parts);

    const answered = seen.calls.filter(({ outcome }) => outcome === "ok");
    expect(answered.length).toBeGreaterThan(10);
    expect(answered.filter(({ kind, wish }) => kind === "create" && wish !== "running")).toEqual([]);
    expect(seen.writes.some(({ saidBy, session }) => saidBy !== "" && saidBy === session)).toBe(true);
    expect(seen.runs.length).toBeGreaterThan(5);
    expect(seen.runs.every(({ pid, dir }) => pid > 0 && dir !== "")).toBe(true);
    expect(seen.watched.length).toBe(seen.events.length);
    expect(seen.final.filter(({ observed }) => observed > 0).every(({ hostKey }) => hostKey !== "")).toBe(true);
    expect(Object.keys(seen.peaks).length).toBe(4);
    expect(seen.peaks["connections to the database"]?.peak).toBeGreaterThan(1);
    expect(seen.probe.runningMs).toBeGreaterThan(0);
    expect(seen.probe.goneMs).toBeGreaterThan(0);
    // Times are the simulation's to the millisecond: a row is not there before its create was asked for, nor after that was answered.
    for (const { kind, vmId, fromMs, toMs, outcome } of seen.calls) {
      if (kind !== "create" || outcome !== "ok") continue;
      const born = seen.writes.find((write) => write.vm === vmId && write.op === "INSERT");
      expect(born?.atMs).toBeGreaterThanOrEqual(Math.floor(fromMs));
      expect(born?.atMs).toBeLessThanOrEqual(Math.ceil(toMs));
    }
  },
);
