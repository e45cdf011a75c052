// What a command waits for, and what a VM's state means for that. No I/O.
import { Phase, type Vm } from "@pitwall/sdk";
import { phaseWord } from "../output/words.ts";

export const goals = ["running", "paused", "suspended", "stopped", "gone"] as const;
export type Goal = (typeof goals)[number];

const phaseOf: Readonly<Record<Goal, Phase>> = {
  running: Phase.PHASE_RUNNING,
  paused: Phase.PHASE_PAUSED,
  suspended: Phase.PHASE_SUSPENDED,
  stopped: Phase.PHASE_STOPPED,
  gone: Phase.PHASE_GONE,
};
/** Of a VM that was to be suspended and runs on. */
const suspendFailed = "SUSPEND_FAILED";

export type Verdict = "reached" | "never" | "not-yet";

type State = Pick<Vm, "phase" | "observedGeneration" | "reason">;

/** What is seen of a VM counts only from the generation on that was current when the wait began. Deletion alone survives failure. */
export function judge(vm: State, goal: Goal, generation: bigint): Verdict {
  if (vm.phase === Phase.PHASE_GONE) return goal === "gone" ? "reached" : "never";
  if (vm.observedGeneration < generation) return "not-yet";
  if (vm.phase === phaseOf[goal]) return "reached";
  if (goal === "suspended" && vm.reason === suspendFailed) return "never";
  return vm.phase === Phase.PHASE_FAILED && goal !== "gone" ? "never" : "not-yet";
}

type Story = Pick<Vm, "name" | "phase" | "reason" | "message">;

/** `web failed (BOOT_TIMEOUT): the guest did not get ready`. A message's further lines are its console's, for `pitwall get`. */
export function describeState({ name, phase, reason, message }: Story): string {
  const state = phase === Phase.PHASE_FAILED ? "failed" : `is ${phaseWord(phase)}`;
  const [first = "", ...console] = message.trim().split("\n");
  const more = console.length === 0 ? "" : ` (\`pitwall get ${name}\` shows its last words)`;
  return `${name} ${state}${reason === "" ? "" : ` (${reason})`}${first === "" ? "" : `: ${first.replace(/:$/, "")}`}${more}`;
}
