// Starts a VMM, under the fence's eyes when its VM may be started elsewhere.
import type { Assignment } from "@pitwall/proto/pitwall/v1/link.ts";
import type { VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError, type ProcessIdentity } from "@pitwall/runtime";
import type { GuestConfig } from "../host/initramfs.ts";
import type { MachineHost, Prepared } from "./host.ts";
import type { VmSize } from "./journal.ts";
import { isReschedulable } from "./reports.ts";
import type { Vmm } from "./vmm.ts";

export interface Starting {
  readonly dir: string;
  readonly assignment: Assignment;
  readonly spec: VmSpec;
  readonly prepared: Prepared;
  /** Undefined: of a VM that an agent started that kept no sizes; as the spec says. */
  readonly size: VmSize | undefined;
  /** It was suspended, and goes on. */
  readonly wakes: boolean;
}

export function sizeOf({ cpuMillis, memBytes }: VmSpec): VmSize {
  return { vcpus: Math.max(1, Math.ceil(cpuMillis / 1000)), memBytes: Number(memBytes) };
}

/** `mayRun` is asked just before and just after: the lease may be lost at any time. On failure nothing is left. */
export async function startVmm({ driver, fence, kernel, network }: MachineHost, what: Starting, mayRun: () => boolean): Promise<Vmm> {
  const { dir, spec, prepared } = what;
  const { vmId, epoch } = what.assignment;
  const isGuarded = isReschedulable(spec);
  const checkLease = (): void => {
    if (!mayRun()) throw new PitwallError("unavailable", "the node has lost its lease", { reason: "LEASE_LOST" });
  };
  if (!isGuarded) fence.release(vmId); // it may have been another kind of VM before
  if (isGuarded) {
    await fence.guard(vmId, { epoch, dir, process: undefined });
    checkLease();
  }
  const { base, disk, initramfs } = prepared;
  let vmm: Vmm | undefined;
  try {
    const tap = await network?.connect(what.assignment);
    const made = { vmId, epoch, dir, kernel, base, disk, ...(what.size ?? sizeOf(spec)), tap };
    vmm = await (what.wakes ? driver.wake(made) : driver.start({ ...made, initramfs }));
    if (isGuarded) {
      checkLease();
      await fence.guard(vmId, { epoch, dir, process: vmm.process });
    }
    return vmm;
  } catch (error) {
    await vmm?.kill();
    await network?.disconnect(vmId);
    throw error;
  }
}

/** What the guest is told of its network. Throws `unsupported` for a VM whose rules or limits for what it sends nobody here would heed. */
export function networkFor({ network }: MachineHost, assignment: Assignment): GuestConfig["network"] | undefined {
  if (network) return network.guestNetwork(assignment);
  const { egress, bandwidthInBps = 0n, bandwidthOutBps = 0n } = assignment.spec ?? {};
  if (bandwidthInBps > 0n || bandwidthOutBps > 0n) {
    const why = "this node has no network of its own, and so cannot limit a VM's bandwidth (docs/network.md)";
    throw new PitwallError("unsupported", why, { reason: "BANDWIDTH_UNSUPPORTED" });
  }
  if (!egress) return undefined;
  const message = "this node has no network of its own, and so heeds no rules for what a VM sends (docs/network.md)";
  throw new PitwallError("unsupported", message, { reason: "EGRESS_UNSUPPORTED" });
}

/** The rules of a VM that runs, kept before they are in force: the agent's next life must not bring back those of before. */
export async function heedRules({ network }: MachineHost, assignment: Assignment, save: () => Promise<void>): Promise<void> {
  if (!network || network.heeds(assignment)) return;
  await save();
  await network.heed(assignment);
}

/** A VMM that runs already, under the policy of this assignment. Resolves when the fence knows. */
export async function guardRunning(
  { fence }: MachineHost,
  dir: string,
  { vmId, epoch, spec }: Assignment,
  process: ProcessIdentity,
): Promise<void> {
  if (isReschedulable(spec)) await fence.guard(vmId, { epoch, dir, process });
  else fence.release(vmId);
}
