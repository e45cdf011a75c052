// The invariants as judges of a history: each a pure function that says what is wrong with it. Words of one are short: they go on one line.
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { FinalVm, History, RowWrite, Violation } from "../observer/history.ts";
import { hasVmm, isStranded, restOf } from "../observer/settled.ts";

type Checker = (history: History) => string[];

/** I1: a placement (VM, epoch) has one node, and epochs only grow. */
const exclusivePlacement: Checker = ({ writes }) => {
  const wrong: string[] = [];
  const last = new Map<string, RowWrite>();
  for (const write of writes) {
    const before = last.get(write.vm);
    last.set(write.vm, write);
    if (!before) continue;
    if (write.epoch < before.epoch) wrong.push(`${write.vm}: epoch ${before.epoch} was followed by ${write.epoch}`);
    if (write.epoch === before.epoch && write.node !== before.node) wrong.push(`${write.vm}: epoch ${write.epoch} was on two nodes`);
  }
  return wrong;
};

/** I2: a VM never runs on two nodes at once. */
const exclusiveRuns: Checker = ({ runs }) => overlaps(runs, (a, b) => a.node !== b.node);

/** I8: nor twice on one node; and the latest generation is brought about. */
const effectOnce: Checker = ({ runs, final, writes, calls, gone }) => {
  const unmet = final.filter(({ node, generation, observed }) => observed < generation && !gone.includes(node));
  const made = Map.groupBy(
    writes.filter(({ op }) => op === "INSERT"),
    ({ request }) => request,
  );
  return [
    ...overlaps(runs, (a, b) => a.node === b.node),
    ...unmet.map(({ vm, generation, observed }) => `${vm}: generation ${generation} was never brought about, ${observed} was`),
    ...[...made].filter(([, rows]) => rows.length > 1).map(([request, rows]) => `request ${request} made ${rows.length} VMs`),
    ...calls
      .filter(({ kind, outcome, requestId }) => kind === "create" && outcome === "ok" && !made.has(requestId))
      .map(({ requestId }) => `request ${requestId} was answered and made no VM`),
  ];
};

function overlaps(runs: History["runs"], counts: (a: History["runs"][number], b: History["runs"][number]) => boolean): string[] {
  const wrong: string[] = [];
  for (const [vm, its] of Map.groupBy(runs, (run) => run.vm))
    for (const [at, one] of its.entries())
      for (const other of its.slice(at + 1)) {
        const isApart = (one.toMs ?? Infinity) <= other.fromMs || (other.toMs ?? Infinity) <= one.fromMs;
        if (!isApart && counts(one, other))
          wrong.push(`${vm}: ran on ${one.node} and ${other.node} at ${Math.max(one.fromMs, other.fromMs)} ms`);
      }
  return wrong;
}

/** In which a calm system leaves no VM that should run. VM_LOST: no node loses its disk. */
const passing: ReadonlySet<string> = new Set(["LEASE_LOST", "NODE_LOST", "NODE_UNREACHABLE", "VM_LOST"]);

/**
 * I4: in the calm, what should run runs where its row says, or has failed with a reason; what should not, does not. What is on a node that has
 * gone for good says so.
 */
const nothingLost: Checker = ({ final, runs, calls, writes, gone }) => {
  const wrong: string[] = [];
  const living = Map.groupBy(
    runs.filter(({ toMs }) => toMs === undefined),
    ({ vm }) => vm,
  );
  for (const row of final) {
    const { vm, node, desired, phase, reason } = row;
    if (gone.includes(node)) {
      if (!isStranded(row)) wrong.push(`${vm}: its node has gone for good, and it is in phase ${phase} ${reason}`);
      continue;
    }
    const here = (living.get(vm) ?? []).filter((run) => run.node === node).length;
    const should = desired === Desired.DESIRED_RUNNING;
    if (should && phase !== Phase.PHASE_RUNNING && (phase !== Phase.PHASE_FAILED || reason === "" || passing.has(reason)))
      wrong.push(`${vm}: should run, and is in phase ${phase} ${reason}`);
    if (hasVmm(phase) && here !== 1) wrong.push(`${vm}: is said to run, and has ${here} VMMs on its node`);
    if (!hasVmm(phase) && here > 0) wrong.push(`${vm}: has a VMM in phase ${phase}`);
    if (desired === Desired.DESIRED_DELETED) wrong.push(`${vm}: was deleted, and is there`);
    const rest = restOf.get(desired);
    if (rest !== undefined && phase !== rest && phase !== Phase.PHASE_FAILED)
      wrong.push(`${vm}: should be in phase ${rest}, and is in phase ${phase}`);
  }
  const present = new Set(final.map(({ vm }) => vm));
  const deleted = new Set(calls.filter(({ kind, outcome }) => kind === "delete" && outcome !== "refused").map(({ vmId }) => vmId));
  for (const { op, vm } of writes)
    if (op === "INSERT" && !present.has(vm) && !deleted.has(vm)) wrong.push(`${vm}: is gone, and nobody deleted it`);
  return wrong;
};

/** I5: what is gone does not run, on no node, ever again. */
const noResurrection: Checker = ({ writes, runs, resolutionMs }) => {
  const gone = new Map(writes.filter(({ op }) => op === "DELETE").map(({ vm, atMs }) => [vm, atMs]));
  return runs
    .filter(({ vm, toMs }) => (toMs ?? Infinity) > (gone.get(vm) ?? Infinity) + resolutionMs)
    .map(({ vm, node, fromMs }) => `${vm}: gone at ${gone.get(vm)} ms, ran on ${node} from ${fromMs} ms`);
};

/** Whether of what a node has of a VM its row says that it is gone, or elsewhere. */
export function isForeignTo(final: readonly FinalVm[]): (of: Pick<FinalVm, "vm" | "node">) => boolean {
  const homes = new Map(final.map(({ vm, node }) => [vm, node]));
  return ({ vm, node }) => homes.get(vm) !== node;
}

/** I6: of what is gone no node keeps anything; nor of what is elsewhere. */
const noLeak: Checker = ({ stored, runs, final, gone }) => {
  const isElsewhere = isForeignTo(final);
  const isForeign = (of: Pick<FinalVm, "vm" | "node">): boolean => isElsewhere(of) && !gone.includes(of.node);
  return [
    ...stored.filter(isForeign).map(({ vm, node }) => `${vm}: ${node} keeps its journal`),
    ...runs.filter((run) => run.toMs === undefined && isForeign(run)).map(({ vm, node }) => `${vm}: ${node} keeps its VMM`),
  ];
};

/** I9: what was observed is never beyond what was asked for, and never goes back within a placement; nor does what is asked for. */
const generationsGrow: Checker = ({ writes }) => {
  const wrong: string[] = [];
  const last = new Map<string, RowWrite>();
  for (const write of writes) {
    if (write.observed > write.generation) wrong.push(`${write.vm}: observed ${write.observed} of ${write.generation}`);
    const before = last.get(write.vm);
    last.set(write.vm, write);
    if (before && write.generation < before.generation) wrong.push(`${write.vm}: generation went back to ${write.generation}`);
    if (before?.epoch === write.epoch && write.observed < before.observed)
      wrong.push(`${write.vm}: observed went back to ${write.observed}`);
  }
  return wrong;
};

/** I10, in part: what was answered, later answers of the same VM do not go behind. */
const answersGrow: Checker = ({ calls }) => {
  const wrong: string[] = [];
  const answered = calls.filter((call) => call.outcome === "ok" && call.generation !== undefined);
  for (const [vm, its] of Map.groupBy(answered, (call) => call.vm))
    for (const later of its)
      for (const earlier of its)
        if (earlier.toMs < later.fromMs && (later.generation ?? 0n) < (earlier.generation ?? 0n))
          wrong.push(`VM ${vm}: ${later.kind} at ${later.fromMs} ms saw generation ${later.generation}, after ${earlier.generation}`);
  return wrong;
};

/** I11: a watch shows each change of a VM once, in their order, and all of them, however often it was resumed. */
const watchIsWhole: Checker = ({ watched, events }) => {
  const wrong: string[] = [];
  const seen = new Map<string, number>();
  for (const { vm, revision } of watched) {
    const before = seen.get(vm) ?? 0;
    if (revision <= before) wrong.push(`${vm}: revision ${revision} was shown after ${before}`);
    seen.set(vm, Math.max(before, revision));
  }
  const shown = new Set(watched.map(({ vm, revision }) => `${vm}/${revision}`));
  for (const { vm, revision } of events) if (!shown.has(`${vm}/${revision}`)) wrong.push(`${vm}: revision ${revision} was never shown`);
  return wrong;
};

/** I13: no node is judged lost before its lease and its fence have had their time, nor one with which nothing is wrong. */
const lossIsPatient: Checker = ({ losses, patienceMs, troubles }) => {
  const isHealthy = (node: string, atMs: number): boolean =>
    !troubles.some((trouble) => trouble.node === node && trouble.fromMs <= atMs && trouble.toMs >= atMs - 2 * patienceMs);
  return losses.flatMap(({ node, lostMs, renewedMs }) => [
    ...(lostMs - renewedMs < patienceMs ? [`${node}: lost at ${lostMs} ms, renewed at ${renewedMs} ms`] : []),
    ...(isHealthy(node, lostMs) ? [`${node}: lost at ${lostMs} ms, and nothing had been wrong with it for ${2 * patienceMs} ms`] : []),
  ]);
};

/** I14: what is placed on a node with a growing write fits. */
const capacityHolds: Checker = ({ writes, capacity }) => {
  const wrong: string[] = [];
  const rows = new Map<string, RowWrite>();
  for (const write of writes) {
    const before = rows.get(write.vm);
    if (write.op === "DELETE") rows.delete(write.vm);
    else rows.set(write.vm, write);
    const grows = write.op === "INSERT" || (write.op === "UPDATE" && before?.node !== write.node);
    if (!grows) continue;
    const here = [...rows.values()].filter((row) => row.node === write.node && !isIdle(row));
    const cpuMillis = here.reduce((sum, row) => sum + row.cpuMillis, 0);
    const memBytes = here.reduce((sum, row) => sum + row.memBytes, 0);
    if (cpuMillis > capacity.cpuMillis || memBytes > capacity.memBytes)
      wrong.push(`${write.node}: ${cpuMillis} of ${capacity.cpuMillis} CPU, ${memBytes} of ${capacity.memBytes} bytes at ${write.atMs} ms`);
  }
  return wrong;
};

const isIdle = ({ desired, phase }: RowWrite): boolean =>
  (desired === Desired.DESIRED_STOPPED && (phase === Phase.PHASE_STOPPED || phase === Phase.PHASE_FAILED)) ||
  (desired === Desired.DESIRED_SUSPENDED && phase === Phase.PHASE_SUSPENDED);

/** I15: each change that was answered is in the audit log once; none that was refused is. */
const auditIsWhole: Checker = ({ calls, audited }) => {
  const counts = new Map<string, number>();
  for (const requestId of audited) counts.set(requestId, (counts.get(requestId) ?? 0) + 1);
  return calls
    .filter(({ kind }) => kind !== "get")
    .filter(({ outcome, requestId }) => outcome !== "unknown" && (counts.get(requestId) ?? 0) !== (outcome === "ok" ? 1 : 0))
    .map(({ kind, requestId, outcome }) => `${kind} ${requestId}: ${outcome}, and ${counts.get(requestId) ?? 0} entries in the audit log`);
};

export const checkers: Readonly<Record<string, Checker>> = {
  I1: exclusivePlacement,
  I2: exclusiveRuns,
  I4: nothingLost,
  I5: noResurrection,
  I6: noLeak,
  I8: effectOnce,
  I9: generationsGrow,
  I10: answersGrow,
  I11: watchIsWhole,
  I13: lossIsPatient,
  I14: capacityHolds,
  I15: auditIsWhole,
};

/** All that is wrong with a history. */
export function judge(history: History): Violation[] {
  return Object.entries(checkers).flatMap(([invariant, check]) => check(history).map((message) => ({ invariant, message })));
}
