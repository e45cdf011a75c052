// Why nobody gets into a VM now, in words that suit who is told.
import { PitwallError } from "@pitwall/runtime";
import type { VmRow } from "../store/entities.ts";

/** Outsiders are told nothing of the VM, not even its name. */
interface Told {
  readonly row: VmRow;
  readonly isOutsider?: true;
}

export function calledFor({ row, isOutsider }: Told): string {
  return isOutsider ? "the VM" : `the VM ${row.name}`;
}

export function closedNow(): PitwallError {
  return new PitwallError("denied", "this address lets nobody in at the moment", { reason: "VM_LOCKED" });
}

/** Why it ended may hold the end of its console. */
export function notRunning(who: Told): PitwallError {
  const why = who.isOutsider || who.row.message === "" ? "" : `: ${who.row.message}`;
  return new PitwallError("state", `${calledFor(who)} is not running${why}`, { reason: "VM_NOT_RUNNING" });
}
