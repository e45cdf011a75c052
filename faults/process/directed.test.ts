import { failpointList } from "@pitwall/runtime";
import { expect, test } from "vitest";
import { directedRunOf, directedSeeds, directedSeedsOf, notDirected, someDirectedSeeds } from "./directed.ts";

test("each failpoint is directed with all that can happen at it, or it is said why not", () => {
  const runs = directedSeeds().map(directedRunOf);
  for (const [name, { writes }] of Object.entries(failpointList)) {
    const actions = runs.flatMap((run) => (run?.point === name ? [run.action] : []));
    const isLeftOut = Object.hasOwn(notDirected, name);
    expect(actions, name).toEqual(isLeftOut ? [] : ["exit", "stop", "throw", ...(writes ? ["enospc"] : [])]);
  }
});

test("runs are asked for by name, by name and action, or all at once", () => {
  expect(directedSeedsOf(["all"])).toEqual(directedSeeds());
  expect(directedSeedsOf(["lease.sent", "create.disk.cloned=enospc"])).toEqual([
    "directed/lease.sent=exit",
    "directed/lease.sent=stop",
    "directed/lease.sent=throw",
    "directed/create.disk.cloned=enospc",
  ]);
  expect(() => directedSeedsOf(["lease"])).toThrow("there is no directed run lease");
  expect(() => directedSeedsOf(["lease.sent=enospc"])).toThrow("there is no directed run lease.sent=enospc");
  expect(() => directedSeedsOf(["guest.net"])).toThrow("no simulated VM boots powerunit");
});

test("a few are drawn by a seed: the same each time, others with another, each at most once", () => {
  const few = someDirectedSeeds(9, "2026-01-01");
  expect(someDirectedSeeds(9, "2026-01-01")).toEqual(few);
  expect(someDirectedSeeds(9, "2026-01-02")).not.toEqual(few);
  expect(new Set(few).size).toBe(9);
});

test("a seed of a schedule is no directed run", () => {
  expect(directedRunOf("ci/4")).toBeUndefined();
  expect(() => directedRunOf("directed/ci")).toThrow("is no directed run");
});
