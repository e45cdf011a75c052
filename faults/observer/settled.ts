// Whether VMs have come to rest: pure, for those who wait for it.
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { FinalVm } from "./history.ts";

/** What this VM should be it is, or has failed for good. */
function isSettled({ desired, phase, reason, observed, generation }: FinalVm): boolean {
  if (observed !== generation) return false;
  if (desired === Desired.DESIRED_RUNNING)
    return phase === Phase.PHASE_RUNNING || (phase === Phase.PHASE_FAILED && !/^(LEASE_LOST|NODE_)/.test(reason));
  return desired === Desired.DESIRED_STOPPED && (phase === Phase.PHASE_STOPPED || phase === Phase.PHASE_FAILED);
}

/** All are settled, and those that are said to run are those that do, each where its row says. */
export function areSettled(
  vms: readonly FinalVm[],
  living: readonly { readonly vm: string; readonly node: string | undefined }[],
): boolean {
  const lives = new Set(living.map(({ vm, node }) => `${vm} ${node}`));
  const running = vms.filter(({ phase }) => phase === Phase.PHASE_RUNNING);
  return vms.every(isSettled) && lives.size === running.length && running.every(({ vm, node }) => lives.has(`${vm} ${node}`));
}
