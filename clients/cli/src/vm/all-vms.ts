// All of a user's VMs at once.
import type { Pitwall, Vm } from "@pitwall/sdk";

/** By name. */
export async function allVms({ vms }: Pitwall): Promise<Vm[]> {
  const all: Vm[] = [];
  for await (const vm of vms.list()) all.push(vm);
  return all;
}
