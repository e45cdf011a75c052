// All VMs of a node: takes assignments, gives inventories, remembers for a while what is gone.
//
// A VM that is gone is reported so once and then on each question about it, and is in no inventory: whoever still waits for its end has it
// in the next complete list. So a hello has as much to say as there are VMs, however many came before.
import type { Assignment, Assignments, Inventory, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError, planted } from "@pitwall/runtime";
import { DamagedMachine } from "./damaged.ts";
import type { MachineHost } from "./host.ts";
import { Machine } from "./machine.ts";
import { goneReport, isOlder, type Version } from "./reports.ts";

const maxBuried = 10_000;

export interface Machines {
  /** Applies a list; VMs that a complete one lacks are reported. */
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
  const machines = new Map<string, Machine | DamagedMachine>();
  /** How far VMs had come that are gone: an assignment that was late must not bring one back. The oldest first. */
  const buried = new Map<string, Version>();
  const ground: MachineHost = { ...host, onReport: told };
  const { entries, damaged } = await host.journals.readAll();
  for (const { vmId, error } of damaged)
    host.log.error(
      "a VM's journal cannot be read: nothing of the VM is started, ended or removed until it is right, or the VM is deleted",
      { vm: vmId, error },
    );
  await host.failpoints.at("rejoin.scan.anchors");
  await host.network?.keepOnly(new Set([...entries.map(({ assignment }) => assignment.vmId), ...damaged.map(({ vmId }) => vmId)]));
  // Of one that is being deleted nobody asks for its VMM any more: it goes with the rest.
  const claimed = entries.filter(({ assignment }) => assignment.desired !== Desired.DESIRED_DELETED);
  await host.driver.sweep?.(claimed.flatMap(({ assignment: { vmId }, process }) => (process ? [{ vmId, process }] : [])));
  for (const { vmId } of damaged) machines.set(vmId, new DamagedMachine(ground, vmId));
  for (const entry of entries) machines.set(entry.assignment.vmId, Machine.restore(ground, entry));

  function told(report: VmReport): void {
    if (report.phase === Phase.PHASE_GONE) bury(report);
    host.onReport(report);
  }

  function bury({ vmId, epoch, generation }: VmReport): void {
    machines.delete(vmId);
    buried.delete(vmId); // the latest to be told of is the last to be forgotten
    buried.set(vmId, { epoch, generation });
    const [oldest] = buried.keys();
    if (buried.size > maxBuried && oldest !== undefined) buried.delete(oldest);
  }

  async function take(assignment: Assignment, isQuestion: boolean): Promise<void> {
    const known = machines.get(assignment.vmId);
    if (known) return known.apply(assignment, isQuestion);
    const gone = buried.get(assignment.vmId);
    const isLate = gone !== undefined && !isOlder(gone, assignment) && !planted("skip-generation-check");
    if (isLate) return told(goneReport({ vmId: assignment.vmId, ...gone }, host.clock.wallMs()));
    if (assignment.desired === Desired.DESIRED_DELETED) return told(goneReport(assignment, host.clock.wallMs()));
    if (!/^[0-9a-f-]{36}$/.test(assignment.vmId)) throw new PitwallError("internal", "an assignment's VM id is not a UUID");
    await host.failpoints.at("create.node.received", assignment.vmId);
    machines.set(assignment.vmId, await Machine.create(ground, assignment));
  }

  return {
    async apply({ assignments, complete }) {
      const listed = new Set(assignments.map(({ vmId }) => vmId));
      for (const assignment of assignments) {
        // One that cannot be taken must not keep the others from theirs.
        // A complete list follows an inventory, which has told all.
        await take(assignment, !complete).catch((error: unknown) =>
          host.log.error("an assignment was not taken", { vm: assignment.vmId, error }),
        );
      }
      // What it lacks is wanted nowhere, or was not in the hello that it answers: told of, it is to be deleted.
      if (complete) for (const [vmId, machine] of machines) if (!listed.has(vmId)) host.onReport(machine.report);
    },
    inventory: () => ({ vms: [...machines.values()].map(({ report }) => report), complete: true }),
    get(vmId) {
      const machine = machines.get(vmId);
      if (!machine) throw new PitwallError("not-found", "this node does not have the VM", { reason: "VM_NOT_HERE" });
      if (machine instanceof DamagedMachine)
        throw new PitwallError("unavailable", "the node cannot read its journal of the VM", { reason: "JOURNAL_DAMAGED" });
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
