// What a machine says of itself before anything was observed, and how two observations compare.
import { GuestState, type WatchStateResponse } from "@pitwall/proto/pitwall/v1/guest.ts";
import type { Assignment, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Health, NodeLossPolicy, Phase, type Exit, type VmSpec, type VmTimings } from "@pitwall/proto/pitwall/v1/vm.ts";
import { messageChain, PitwallError, toDuration } from "@pitwall/runtime";
import type { JournalEntry } from "./journal.ts";
import type { ReadyTimes } from "./await-ready.ts";
import type { VmmExit } from "./vmm.ts";

const messageLimit = 2048;

export const noTimings: VmTimings = {
  place: undefined,
  pull: undefined,
  convert: undefined,
  prepare: undefined,
  boot: undefined,
  ready: undefined,
};

/** Before the image's process was started. */
const noService = { serviceExit: undefined, restartCount: 0, health: Health.HEALTH_UNSPECIFIED };

/** In which a start has come to an end. */
const settledPhases: ReadonlySet<Phase> = new Set([
  Phase.PHASE_RUNNING,
  Phase.PHASE_PAUSED,
  Phase.PHASE_SUSPENDED,
  Phase.PHASE_STOPPED,
  Phase.PHASE_FAILED,
]);

/** In which a VM is said to run, or to be about to. */
export const upPhases: ReadonlySet<Phase> = new Set([
  Phase.PHASE_PLACED,
  Phase.PHASE_PREPARING,
  Phase.PHASE_BOOTING,
  Phase.PHASE_RUNNING,
  Phase.PHASE_PAUSED,
  Phase.PHASE_RESUMING,
]);

/** Whether the VM is said to have a VMM, and to have come to rest with it. */
export function isUp(phase: Phase): boolean {
  return phase === Phase.PHASE_RUNNING || phase === Phase.PHASE_PAUSED;
}

/** Whether the VM is on the disk, or was when somebody began to wake it. */
export function isAsleep(phase: Phase): boolean {
  return phase === Phase.PHASE_SUSPENDED || phase === Phase.PHASE_RESUMING;
}

/** Whether the VM's guest stands still, if it has a VMM, and its memory may be on the disk. */
export function isHeld(phase: Phase): boolean {
  return isAsleep(phase) || phase === Phase.PHASE_SUSPENDING || phase === Phase.PHASE_PAUSED;
}

/** The VM was ended for want of a lease: it is started again once the controller still wants it here. */
export const leaseLost = {
  phase: Phase.PHASE_FAILED,
  reason: "LEASE_LOST",
  message: "the node lost its lease and ended the VM, so that it can be started elsewhere",
};

/** Whether what the journal tells of is over and done: a VM that ran in another boot of the host is to be started again. */
export function hasSettled({ report: { phase, reason }, bootId }: JournalEntry, currentBootId: string): boolean {
  return settledPhases.has(phase) && reason !== leaseLost.reason && !(phase === Phase.PHASE_RUNNING && bootId !== currentBootId);
}

export function firstReport(assignment: Assignment, nowMs: number): VmReport {
  return { ...blankReport(assignment, nowMs), phase: Phase.PHASE_PLACED, timings: noTimings };
}

/** Of a VM that this node does not have: nothing of it is here. */
export function goneReport(of: Version & Pick<Assignment, "vmId">, nowMs: number): VmReport {
  return { ...blankReport(of, nowMs), phase: Phase.PHASE_GONE };
}

/** Before anything was observed. */
export function blankReport({ vmId, generation, epoch }: Version & Pick<Assignment, "vmId">, nowMs: number): VmReport {
  const rest = { reason: "", message: "", ...noService, sshHostKey: "", timings: undefined, observeTime: new Date(nowMs) };
  return { vmId, generation, epoch, phase: Phase.PHASE_UNSPECIFIED, ...rest };
}

/** A VM is about to be booted: nothing of its last run counts any more. */
export const preparing = { phase: Phase.PHASE_PREPARING, reason: "", message: "", ...noService, timings: noTimings };

/** How long the boot took, by the monotonic clock's readings at its steps. */
export function upTimings({ timings }: VmReport, { started, firstWord, ready }: ReadyTimes): VmTimings {
  return { ...(timings ?? noTimings), boot: toDuration(firstWord - started), ready: toDuration(ready - firstWord) };
}

export function bootTimeout(limitMs: number, exit: VmmExit | undefined): PitwallError {
  return new PitwallError("deadline", `the guest was not ready within ${limitMs / 1000} s:\n${exit?.tail ?? ""}`, {
    reason: "BOOT_TIMEOUT",
  });
}

/** A start did not work. */
export function failure(error: unknown): Pick<VmReport, "phase" | "reason" | "message"> {
  const isOurs = error instanceof PitwallError;
  const message = isOurs ? error.message : `the node met an error: ${messageChain(error)}`;
  return { phase: Phase.PHASE_FAILED, reason: isOurs ? error.reason : "INTERNAL", message: message.slice(0, messageLimit) };
}

/** A VMM ended without our doing; `said` is its guest's last word. */
export function afterExit(exit: VmmExit, said: WatchStateResponse | undefined): Pick<VmReport, "phase" | "reason" | "message"> {
  if (said?.state === GuestState.GUEST_STATE_STOPPING) {
    return { phase: Phase.PHASE_STOPPED, reason: "GUEST_SHUTDOWN", message: "the guest shut itself down" };
  }
  const failed = said?.state === GuestState.GUEST_STATE_FAILED;
  const how = exit.signal === null ? (exit.code === null ? "" : ` with code ${exit.code}`) : ` by ${exit.signal}`;
  const message = failed ? `the guest failed: ${said.message}` : `the VM's process ended${how}:\n${exit.tail}`;
  return { phase: Phase.PHASE_FAILED, reason: failed ? "GUEST_FAILED" : "VMM_EXITED", message: message.slice(0, messageLimit) };
}

/** How far a VM has come. */
export type Version = Pick<Assignment, "epoch" | "generation">;

export function isOlder(a: Version, b: Version): boolean {
  return a.epoch < b.epoch || (a.epoch === b.epoch && a.generation < b.generation);
}

/** Whether the controller says again what it has said. */
export function isSameWish(a: Assignment, b: Assignment): boolean {
  return a.epoch === b.epoch && a.generation === b.generation && a.desired === b.desired;
}

/** The generation of the latest start that was asked for. Older controllers do not tell it: each change of theirs is one. */
export function lastStart({ restartGeneration, generation }: Assignment): bigint {
  return restartGeneration === 0n ? generation : restartGeneration;
}

/** In which what is heard of the image's process is reported. */
const tellingPhases: ReadonlySet<Phase> = new Set([Phase.PHASE_RUNNING, Phase.PHASE_STOPPING]);

/** What a guest said of the image's process, when that is news to the report. */
export function serviceNews(
  said: WatchStateResponse | undefined,
  known: VmReport,
): Pick<VmReport, "serviceExit" | "restartCount" | "health"> | undefined {
  if (!said || !tellingPhases.has(known.phase)) return undefined;
  const { serviceExit = known.serviceExit, restartCount, health } = said;
  const isKnown = isSameExit(serviceExit, known.serviceExit) && restartCount === known.restartCount && health === known.health;
  return isKnown ? undefined : { serviceExit, restartCount, health };
}

function isSameExit(a: Exit | undefined, b: Exit | undefined): boolean {
  return a?.code === b?.code && a?.signal === b?.signal && a?.outOfMemory === b?.outOfMemory;
}

/** Whether the VM may be started elsewhere when this node is lost: then it must not run here without a lease. */
export function isReschedulable(spec: VmSpec | undefined): boolean {
  return spec?.nodeLossPolicy === NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE;
}
