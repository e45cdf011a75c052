import { expect, test } from "vitest";
import { caps, excused, judgeProcesses, processJudges, type ProcessHistory } from "./judges.ts";

const vmm = { pid: 7, vm: "a", epoch: 1, node: "n1", fromMs: 0, toMs: 900 };
const fine: ProcessHistory = {
  acknowledged: [
    { vm: "a", epoch: 1, atMs: 100 },
    { vm: "a", epoch: 2, atMs: 1_000 },
  ],
  reached: [
    { vm: "a", epoch: 1, fromMs: 900, toMs: 1_100 },
    { vm: "a", epoch: 2, fromMs: 1_200, toMs: 1_300 },
  ],
  intrusions: [{ who: "nobody", atMs: 5, wasLetIn: false }],
  placed: [vmm, { ...vmm, pid: 8, epoch: 2, node: "n2", fromMs: 1_000, toMs: undefined }],
  unguarded: [],
  taken: [{ name: "gateway", files: 40, rssBytes: 2 ** 27 }],
  connections: 20,
  left: [],
  probe: [],
  ends: [],
};

test("a history in which all is well is passed", () => {
  expect(judgeProcesses(fine)).toEqual([]);
});

const wrong: Record<string, Partial<ProcessHistory>[]> = {
  I3: [
    { reached: [{ vm: "a", epoch: 1, fromMs: 1_001, toMs: 1_100 }] },
    {
      acknowledged: [],
      reached: [
        { vm: "a", epoch: 2, fromMs: 0, toMs: 10 },
        { vm: "a", epoch: 1, fromMs: 20, toMs: 30 },
      ],
    },
  ],
  I6: [{ left: ["a: node-0 keeps its folder"] }],
  I7: [{ placed: [vmm, { ...vmm, pid: 8, node: "n2", fromMs: 2_000 }] }, { placed: [vmm, { ...vmm, pid: 8, epoch: 2, fromMs: 899 }] }],
  I16: [
    { taken: [{ name: "gateway", files: caps.files + 1, rssBytes: 0 }] },
    { taken: [{ name: "gateway", files: 1, rssBytes: caps.rssBytes + 1 }] },
    { connections: caps.connections + 1 },
  ],
  I17: [{ intrusions: [{ who: "a revoked token", atMs: 5, wasLetIn: true }] }, { intrusions: [] }],
  I18: [{ probe: ["a new VM got to phase 12"] }],
  run: [{ ends: [{ name: "gateway", how: "code 1" }] }],
};

test.each(Object.keys(processJudges))("%s refuses what it is there for, and nobody else does", (invariant) => {
  expect(wrong[invariant]).toBeDefined();
  for (const part of wrong[invariant] ?? []) {
    const found = judgeProcesses({ ...fine, ...part });
    expect(found.map((violation) => violation.invariant)).toEqual([invariant]);
  }
});

test("what ran twice is excused on a node that nobody guarded meanwhile, and nowhere else", () => {
  const runs = [{ vm: "a", node: "n1", fromMs: 0, toMs: 900 }];
  const found = ["I2", "I5", "I9"].map((invariant) => ({ invariant, message: "a: is wrong" }));
  expect(excused(found, runs, [{ node: "n1", fromMs: 800, toMs: 1_000 }]).map(({ invariant }) => invariant)).toEqual(["I9"]);
  expect(excused(found, runs, [{ node: "n2", fromMs: 800, toMs: 1_000 }])).toEqual(found);
  expect(excused(found, runs, [{ node: "n1", fromMs: 900, toMs: 1_000 }])).toEqual(found);
});
