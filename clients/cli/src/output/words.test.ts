import { Desired, NodeState, Phase } from "@pitwall/sdk";
import { expect, test } from "vitest";
import { ageWord, byteWord, cpuWord, desiredWord, durationWord, exitWord, nodeStateWord, phaseWord } from "./words.ts";

test("wire words lose their prefix", () => {
  expect([phaseWord(Phase.PHASE_RUNNING), desiredWord(Desired.DESIRED_STOPPED), nodeStateWord(NodeState.NODE_STATE_READY)]).toEqual([
    "running",
    "stopped",
    "ready",
  ]);
});

test("a phase of a newer server is unknown", () => {
  expect(phaseWord(Phase.UNRECOGNIZED)).toBe("unknown");
});

test("sizes are as short as they can be", () => {
  expect([0n, 1023n, 2n ** 29n, 3n * 2n ** 29n, 2n ** 40n, 123_456_789n].map(byteWord)).toEqual([
    "0",
    "1023",
    "512Mi",
    "1.5Gi",
    "1Ti",
    "118Mi",
  ]);
});

test("CPUs are whole or thousandths", () => {
  expect([1000, 1500, 250].map(cpuWord)).toEqual(["1", "1500m", "250m"]);
});

test("an age has one unit and is never negative", () => {
  const now = Date.UTC(2026, 0, 10);
  const ages = [-5, 45, 119, 120, 7199, 7200, 172_799, 172_800].map((seconds) => ageWord(new Date(now - seconds * 1000), now));
  expect(ages).toEqual(["0s", "45s", "119s", "2m", "119m", "2h", "47h", "2d"]);
  expect(ageWord(undefined, now)).toBe("");
});

test("durations are for reading", () => {
  expect([350, 1850, 12_340].map(durationWord)).toEqual(["350 ms", "1.85 s", "12.3 s"]);
});

test("an exit is a code or a signal", () => {
  expect(exitWord({ code: 3, signal: 0, outOfMemory: false })).toBe("exit code 3");
  expect(exitWord({ code: 0, signal: 9, outOfMemory: true })).toBe("signal 9, out of memory");
});
