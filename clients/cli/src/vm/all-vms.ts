// All VMs of a list at once.
import type { ListVmsOptions, Pitwall, Vm } from "@pitwall/sdk";

/** By name, unless another order is asked for. */
export async function allVms({ vms }: Pitwall, options: ListVmsOptions = {}): Promise<Vm[]> {
  const all: Vm[] = [];
  for await (const vm of vms.list(options)) all.push(vm);
  return all;
}
