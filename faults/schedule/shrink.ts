// Makes a schedule that fails smaller while it still does: fewer faults, fewer words of administrators, then fewer VMs.
import type { Schedule } from "./schedule.ts";

export interface ShrinkLimits {
  /** At most so many schedules are run. Default 40. */
  readonly tries?: number;
  /** None is, once it aborts. */
  readonly signal?: AbortSignal;
}

/** `fails` runs a schedule. */
export async function shrink(
  schedule: Schedule,
  fails: (candidate: Schedule) => Promise<boolean>,
  { tries = 40, signal }: ShrinkLimits = {},
): Promise<Schedule> {
  let smallest = schedule;
  let left = tries;
  const attempt = async (candidate: Schedule): Promise<boolean> => {
    if (signal?.aborted === true || left-- <= 0 || !(await fails(candidate))) return false;
    smallest = candidate;
    return true;
  };
  for (let at = smallest.faults.length - 1; at >= 0; at--)
    await attempt({ ...smallest, faults: smallest.faults.filter((_, index) => index !== at) });
  for (let at = smallest.nodeOps.length - 1; at >= 0; at--)
    await attempt({ ...smallest, nodeOps: smallest.nodeOps.filter((_, index) => index !== at) });
  const vms = new Set(schedule.ops.map(({ vm }) => vm));
  for (let share = Math.ceil(vms.size / 2); share >= 1 && left > 0; share = Math.floor(share / 2))
    for (const gone of chunks([...new Set(smallest.ops.map(({ vm }) => vm))], share))
      await attempt({ ...smallest, ops: smallest.ops.filter(({ vm }) => !gone.has(vm)) });
  return smallest;
}

function chunks(items: readonly number[], size: number): ReadonlySet<number>[] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, at) => new Set(items.slice(at * size, (at + 1) * size)));
}
