// Waiting for a VM, with its phases on stderr.
import { PitwallRpcError, WaitTimeoutError, type Pitwall, type Vm } from "@pitwall/sdk";
import { CliError } from "../failure.ts";
import { openProgress } from "../output/progress.ts";
import { phaseWord } from "../output/words.ts";
import type { Shell } from "../shell.ts";
import { describeState, judge, type Goal } from "./goal.ts";

/** The VM once it is there; undefined when it is gone, as it should be. Throws a sentence when it fails or time is up. */
export async function follow(
  shell: Shell,
  pitwall: Pitwall,
  { id, name, generation }: Vm,
  goal: Goal,
  timeoutMs: number,
): Promise<Vm | undefined> {
  using progress = openProgress({ write: (text) => shell.err(text), isTerminal: shell.errIsTerminal, nowMs: () => shell.monotonicMs() });
  try {
    const vm = await pitwall.vms.waitUntil(
      id,
      (seen) => {
        progress.step(`${name}: ${phaseWord(seen.phase)}`);
        return judge(seen, goal, generation) !== "not-yet";
      },
      { timeoutMs, signal: shell.signals.signal },
    );
    if (judge(vm, goal, generation) === "reached") return goal === "gone" ? undefined : vm;
    throw new CliError(`${describeState(vm)}${remedy(vm)}`);
  } catch (error) {
    if (goal === "gone" && error instanceof PitwallRpcError && error.code === "NOT_FOUND") return undefined;
    if (!(error instanceof WaitTimeoutError)) throw error;
    const state = error.vm ? describeState(error.vm) : `nothing was heard of ${name}`;
    throw new CliError(`${state}, and not ${goal} after ${timeoutMs / 1000} s; \`pitwall wait ${name} --for ${goal}\` waits on`);
  }
}

function remedy({ name, reason }: Vm): string {
  return reason.startsWith("IMAGE_")
    ? `; \`pitwall rm ${name}\` removes it`
    : `; \`pitwall start ${name}\` tries again, \`pitwall rm ${name}\` removes it`;
}
