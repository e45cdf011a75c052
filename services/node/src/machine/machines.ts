// All VMs of a node: takes assignments, gives inventories, remembers what is gone until the controller has heard it.
import type { Assignment, Assignments, Inventory, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError, planted } from "@pitwall/runtime";
import type { MachineHost } from "./host.ts";
import { Machine } from "./machine.ts";
import { goneReport, isOlder } from "./reports.ts";

const maxBuried = 10_000;

export interface Machines {
  /** Applies a list; a complete one also ends the memory of VMs that are gone. */
  apply(assignments: Assignments): Promise<void>;
  inventory(): Inventory;
  /** Throws `not-found`. */
  get(vmId: string): Machine;
  /** The lease is lost: VMs that may be started elsewhere end here. Resolves when their VMMs are gone. */
  yieldUp(): Promise<void>;
  /** Sets the clocks of all guests by the host's. */
  setTime(): Promise<void>;
  /** Lets go of all VMs, which run on. */
  close(): Promise<void>;
}

/** Adopts what an earlier run left. */
export async function openMachines(host: MachineHost): Promise<Machines> {
  const machines = new Map<string, Machine>();
  /** What of VMs that are gone was said last: an assignment that was late must not bring one back. The oldest first. */
  const buried = new Map<string, VmReport>();
  const entries = await host.journals.readAll();
  await host.failpoints.at("rejoin.scan.anchors");
  for (const entry of entries) machines.set(entry.assignment.vmId, Machine.restore(host, entry));

  function bury(report: VmReport): void {
    machines.delete(report.vmId);
    buried.set(report.vmId, report);
    const [oldest] = buried.keys();
    if (buried.size > maxBuried && oldest !== undefined) buried.delete(oldest);
  }

  async function take(assignment: Assignment, isQuestion: boolean): Promise<void> {
    const known = machines.get(assignment.vmId);
    if (known && !known.isGone) return known.apply(assignment, isQuestion);
    const gone = known?.report ?? buried.get(assignment.vmId);
    if (gone && !isOlder(gone, assignment) && !planted("skip-generation-check")) return host.onReport(gone);
    if (assignment.desired === Desired.DESIRED_DELETED) {
      const report = known?.report ?? goneReport(assignment, host.clock.wallMs());
      if (!known) bury(report);
      return host.onReport(report);
    }
    if (!/^[0-9a-f-]{36}$/.test(assignment.vmId)) throw new PitwallError("internal", "an assignment's VM id is not a UUID");
    await host.failpoints.at("create.node.received", assignment.vmId);
    machines.set(assignment.vmId, await Machine.create(host, assignment));
  }

  return {
    async apply({ assignments, complete }) {
      const listed = new Set(assignments.map(({ vmId }) => vmId));
      if (complete) for (const [vmId, machine] of machines) if (machine.isGone && !listed.has(vmId)) bury(machine.report);
      for (const assignment of assignments) {
        // One that cannot be taken must not keep the others from theirs.
        // A complete list follows an inventory, which has told all.
        await take(assignment, !complete).catch((error: unknown) =>
          host.log.error("an assignment was not taken", { vm: assignment.vmId, error }),
        );
      }
    },
    inventory: () => ({ vms: [...machines.values()].map(({ report }) => report), complete: true }),
    get(vmId) {
      const machine = machines.get(vmId);
      if (!machine || machine.isGone) throw new PitwallError("not-found", "this node does not have the VM", { reason: "VM_NOT_HERE" });
      return machine;
    },
    async yieldUp() {
      await Promise.all([...machines.values()].map((machine) => machine.yieldUp()));
    },
    async setTime() {
      await Promise.all([...machines.values()].map((machine) => machine.setTime()));
    },
    async close() {
      await Promise.all([...machines.values()].map((machine) => machine.close()));
    },
  };
}
