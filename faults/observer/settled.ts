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

/** Where its VM comes to rest whose node has gone for good, but for those that begin anew elsewhere: what is on that node is not known. */
export function isStranded({ desired, phase, reason }: FinalVm): boolean {
  return (
    desired === Desired.DESIRED_DELETED || desired === Desired.DESIRED_STOPPED || phase === Phase.PHASE_FAILED || reason === "NODE_LOST"
  );
}

/**
 * All are settled, and those that are said to run are those that do, each where its row says; those on nodes that have gone for good are
 * stranded.
 */
export function areSettled(
  all: readonly FinalVm[],
  living: readonly { readonly vm: string; readonly node: string | undefined }[],
  gone: ReadonlySet<string> = new Set(),
): boolean {
  const vms = all.filter(({ node }) => !gone.has(node));
  if (!all.every((vm) => !gone.has(vm.node) || isStranded(vm))) return false;
  const lives = new Set(living.map(({ vm, node }) => `${vm} ${node}`));
  const running = vms.filter(({ phase }) => hasVmm(phase));
  return vms.every(isSettled) && lives.size === running.length && running.every(({ vm, node }) => lives.has(`${vm} ${node}`));
}
