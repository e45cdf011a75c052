import { expect, test } from "vitest";
import { controllerCount, firstFaultMs, isOfController, makeProcessSchedule, nodeCount, processFaults } from "./schedule.ts";

const schedules = Array.from({ length: 300 }, (_, at) => makeProcessSchedule(`test/${at}`));

test("a seed draws the same schedule every time, and another seed another", () => {
  expect(makeProcessSchedule("1/2")).toEqual(makeProcessSchedule("1/2"));
  expect(makeProcessSchedule("1/2")).not.toEqual({ ...makeProcessSchedule("1/3"), seed: "1/2" });
});

test("schedules hold 2 to 5 faults of all kinds, each of somebody who is there, and traffic before them", () => {
  const kinds = new Set<string>();
  for (const { faults, ops } of schedules) {
    expect(faults.length).toBeGreaterThanOrEqual(2);
    expect(faults.length).toBeLessThanOrEqual(5);
    for (const { kind, victim, atMs } of faults) {
      kinds.add(kind);
      expect(victim).toBeLessThan(isOfController(kind) ? controllerCount : nodeCount);
      expect(atMs).toBeGreaterThanOrEqual(firstFaultMs);
    }
    expect(ops.filter(({ kind, atMs }) => kind === "create" && atMs < firstFaultMs / 2).length).toBeGreaterThanOrEqual(6);
  }
  expect(kinds).toEqual(new Set(processFaults));
});

test("faults that are not possible here are not drawn", () => {
  const kinds = processFaults.filter((kind) => !kind.endsWith("-clock-jump"));
  const drawn = Array.from({ length: 100 }, (_, at) => makeProcessSchedule(`test/${at}`, kinds)).flatMap(({ faults }) => faults);
  expect(drawn.filter(({ kind }) => kind.endsWith("-clock-jump"))).toEqual([]);
});
