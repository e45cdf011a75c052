import { Phase } from "@pitwall/sdk";
import { describe, expect, it, test } from "vitest";
import { describeState, judge } from "./goal.ts";

describe("a wait", () => {
  it.each([
    ["running", Phase.PHASE_RUNNING, "reached"],
    ["running", Phase.PHASE_BOOTING, "not-yet"],
    ["running", Phase.PHASE_FAILED, "never"],
    ["running", Phase.PHASE_GONE, "never"],
    ["paused", Phase.PHASE_PAUSED, "reached"],
    ["suspended", Phase.PHASE_SUSPENDED, "reached"],
    ["suspended", Phase.PHASE_SUSPENDING, "not-yet"],
    ["suspended", Phase.PHASE_FAILED, "never"],
    ["stopped", Phase.PHASE_STOPPED, "reached"],
    ["stopped", Phase.PHASE_RUNNING, "not-yet"],
    ["gone", Phase.PHASE_GONE, "reached"],
    ["gone", Phase.PHASE_FAILED, "not-yet"],
    ["gone", Phase.PHASE_STOPPED, "not-yet"],
  ] as const)("for %s, at phase %s, is %s", (goal, phase, verdict) =>
    expect(judge({ phase, reason: "", observedGeneration: 3n }, goal, 3n)).toBe(verdict),
  );

  test("does not take the former state for the one it waits for", () => {
    expect(judge({ phase: Phase.PHASE_STOPPED, reason: "", observedGeneration: 2n }, "stopped", 3n)).toBe("not-yet");
    expect(judge({ phase: Phase.PHASE_FAILED, reason: "", observedGeneration: 2n }, "running", 3n)).toBe("not-yet");
  });

  test("for a VM that could not be suspended, and runs on, is over", () => {
    const runsOn = { phase: Phase.PHASE_RUNNING, reason: "SUSPEND_FAILED", observedGeneration: 3n };
    expect(judge(runsOn, "suspended", 3n)).toBe("never");
    expect(judge(runsOn, "running", 3n)).toBe("reached");
  });
});

test("a state is told with its reason", () => {
  expect(describeState({ name: "web", phase: Phase.PHASE_FAILED, reason: "VMM_EXITED", message: "QEMU ended" })).toBe(
    "web failed (VMM_EXITED): QEMU ended",
  );
  expect(describeState({ name: "web", phase: Phase.PHASE_PENDING, reason: "", message: "" })).toBe("web is pending");
});

test("a state with a console in its message is told in one line", () => {
  const message = "the VM's process ended:\n[1.0] Kernel panic\n[1.1] Call Trace:";
  expect(describeState({ name: "web", phase: Phase.PHASE_FAILED, reason: "VMM_EXITED", message })).toBe(
    "web failed (VMM_EXITED): the VM's process ended (`pitwall get web` shows its last words)",
  );
});
