// How much a VM may send and be sent: what is asked for, checked.
import type { VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { invalid } from "@pitwall/runtime";

const least = 64_000n;
const most = 10n ** 12n;

type Bandwidth = Pick<VmSpec, "bandwidthInBps" | "bandwidthOutBps">;

/** Throws `invalid` naming the field. */
export function checkBandwidth({ bandwidthInBps, bandwidthOutBps }: Bandwidth): void {
  for (const [field, bps] of [
    ["spec.bandwidth_in_bps", bandwidthInBps],
    ["spec.bandwidth_out_bps", bandwidthOutBps],
  ] as const)
    if (bps !== 0n && (bps < least || bps > most))
      throw invalid(field, `must be 0, for no limit, or ${least} to ${most} bits a second, got ${bps}`);
}

/** Whether it has a limit, in whichever way. */
export function hasBandwidth({ bandwidthInBps, bandwidthOutBps }: Bandwidth): boolean {
  return bandwidthInBps > 0n || bandwidthOutBps > 0n;
}
