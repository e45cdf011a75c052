// All VMs of a node: takes assignments, gives inventories, remembers what is gone until the controller has heard it.
import { join } from "node:path";
import type { Assignment, Assignments, Inventory, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired, Health, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError } from "@pitwall/runtime";
import { readJournals } from "./journal.ts";
import { Machine, type MachineHost } from "./machine.ts";

export interface Machines {
  /** Applies a list; a complete one also ends the memory of VMs that are gone. */
  apply(assignments: Assignments): Promise<void>;
  inventory(): Inventory;
  /** Throws `not-found`. */
  get(vmId: string): Machine;
  /** Lets go of all VMs, which run on. */
  close(): Promise<void>;
}

/** Adopts what an earlier run left below `root`. */
export async function openMachines(root: string, host: MachineHost): Promise<Machines> {
  const machines = new Map<string, Machine>();
  for (const { dir, entry } of await readJournals(root)) machines.set(entry.assignment.vmId, Machine.restore(host, dir, entry));

  async function take(assignment: Assignment): Promise<void> {
    const known = machines.get(assignment.vmId);
    if (known && !known.isGone) return known.apply(assignment);
    if (assignment.desired === Desired.DESIRED_DELETED) return host.onReport(known?.report ?? gone(assignment));
    if (!/^[0-9a-f-]{36}$/.test(assignment.vmId)) throw new PitwallError("internal", "an assignment's VM id is not a UUID");
    machines.set(assignment.vmId, await Machine.create(host, join(root, assignment.vmId), assignment));
  }

  return {
    async apply({ assignments, complete }) {
      const listed = new Set(assignments.map(({ vmId }) => vmId));
      if (complete) for (const [vmId, machine] of machines) if (machine.isGone && !listed.has(vmId)) machines.delete(vmId);
      for (const assignment of assignments) {
        // One that cannot be taken must not keep the others from theirs.
        await take(assignment).catch((error: unknown) => host.log.error("an assignment was not taken", { vm: assignment.vmId, error }));
      }
    },
    inventory: () => ({ vms: [...machines.values()].map(({ report }) => report), complete: true }),
    get(vmId) {
      const machine = machines.get(vmId);
      if (!machine || machine.isGone) throw new PitwallError("not-found", "this node does not have the VM", { reason: "VM_NOT_HERE" });
      return machine;
    },
    async close() {
      await Promise.all([...machines.values()].map((machine) => machine.close()));
    },
  };
}

/** Of a VM that this node does not have: nothing of it is here. */
function gone({ vmId, generation, epoch }: Assignment): VmReport {
  const service = { serviceExit: undefined, restartCount: 0, health: Health.HEALTH_UNSPECIFIED };
  const rest = { reason: "", message: "", ...service, sshHostKey: "", timings: undefined, observeTime: new Date() };
  return { vmId, generation, epoch, phase: Phase.PHASE_GONE, ...rest };
}
