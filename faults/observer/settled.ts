// Whether VMs have come to rest: pure, for those who wait for it.
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { FinalVm } from "./history.ts";

/** Where a VM comes to rest that is not to run. */
export const restOf: ReadonlyMap<number, number> = new Map([
  [Desired.DESIRED_STOPPED, Phase.PHASE_STOPPED],
  [Desired.DESIRED_PAUSED, Phase.PHASE_PAUSED],
  [Desired.DESIRED_SUSPENDED, Phase.PHASE_SUSPENDED],
]);

/** Whether a VM in this phase has a VMM. */
export function hasVmm(phase: number): boolean {
  return phase === Phase.PHASE_RUNNING || phase === Phase.PHASE_PAUSED;
}

/** What this VM should be it is, or has failed for good. */
function isSettled({ desired, phase, reason, observed, generation }: FinalVm): boolean {
  if (observed !== generation) return false;
  if (desired === Desired.DESIRED_DELETED) return false;
  if (desired === Desired.DESIRED_RUNNING)
    return phase === Phase.PHASE_RUNNING || (phase === Phase.PHASE_FAILED && !/^(LEASE_LOST|NODE_)/.test(reason));
  return phase === restOf.get(desired) || phase === Phase.PHASE_FAILED;
}

/** All are settled, and those that are said to run are those that do, each where its row says. */
export function areSettled(
  vms: readonly FinalVm[],
  living: readonly { readonly vm: string; readonly node: string | undefined }[],
): boolean {
  const lives = new Set(living.map(({ vm, node }) => `${vm} ${node}`));
  const running = vms.filter(({ phase }) => hasVmm(phase));
  return vms.every(isSettled) && lives.size === running.length && running.every(({ vm, node }) => lives.has(`${vm} ${node}`));
}
