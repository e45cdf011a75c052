// The invariants that only the layer sim sees enough of, as judges of its history: pure, as those of checkers.ts.
import { Desired } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { Violation } from "../observer/history.ts";
import type { SimFinalVm, SimHistory, SimWrite } from "../observer/sim-history.ts";
import { judge } from "./checkers.ts";
import { answersFitAnOrder } from "./register.ts";

type SimChecker = (history: SimHistory) => string[];

/** I7: at no time do two VMs share a name that is theirs, a process, a folder or a host key. */
const nothingShared: SimChecker = ({ runs, writes, final }) => {
  const wrong: string[] = [];
  for (const [at, one] of runs.entries())
    for (const other of runs.slice(at + 1)) {
      const isApart = (one.toMs ?? Infinity) <= other.fromMs || (other.toMs ?? Infinity) <= one.fromMs;
      if (isApart || one.node !== other.node) continue;
      if (one.pid === other.pid) wrong.push(`${one.vm} and ${other.vm}: both were process ${one.pid} of ${one.node}`);
      if (one.dir === other.dir && one.vm !== other.vm) wrong.push(`${one.vm} and ${other.vm}: both worked in ${one.dir}`);
    }
  const named = new Map<string, SimWrite>();
  const names = new Map<string, string>();
  for (const write of writes) {
    const before = named.get(write.vm);
    if (before && names.get(before.name) === write.vm) names.delete(before.name);
    named.set(write.vm, write);
    if (write.op === "DELETE" || !write.ownsName) continue;
    const other = names.get(write.name);
    if (other !== undefined) wrong.push(`${write.vm} and ${other}: both were called ${write.name} at ${write.atMs} ms`);
    names.set(write.name, write.vm);
  }
  const keyed = Map.groupBy(
    final.filter(({ hostKey }) => hostKey !== ""),
    ({ hostKey }) => hostKey,
  );
  for (const its of keyed.values()) if (its.length > 1) wrong.push(`${its.map(({ vm }) => vm).join(" and ")}: have one host key`);
  return wrong;
};

/** I4: here no node ever loses a disk, so no VM may be said to be lost, not even for a moment: the next word of its node may mend it. */
const nothingSaidLost: SimChecker = ({ writes }) => {
  const said = Map.groupBy(
    writes.filter(({ reason }) => reason === "VM_LOST"),
    ({ vm }) => vm,
  );
  return [...said].map(([vm, [first]]) => `${vm}: was said to be lost at ${first?.atMs} ms`);
};

/**
 * I4: what should run, and may begin anew elsewhere, does so when its node has gone for good: if that node had said that it knows, and another
 * has room.
 */
export function strandedIn({ final, gone, writes, capacity }: Pick<SimHistory, "final" | "gone" | "writes" | "capacity">): string[] {
  const taken = Map.groupBy(final, ({ node }) => node);
  const hasRoom = (cpuMillis: number): boolean =>
    [...new Set(writes.map(({ node }) => node))].some((node) => {
      const used = (taken.get(node) ?? []).reduce((sum, vm) => sum + vm.cpuMillis, 0);
      return !gone.includes(node) && used + cpuMillis <= capacity.cpuMillis;
    });
  const knew = ({ vm, epoch, movesSince = Infinity }: SimFinalVm): boolean =>
    writes.some((write) => write.vm === vm && write.epoch === epoch && write.saidBy !== "" && write.observed >= Math.max(movesSince, 1));
  return final
    .filter((vm) => gone.includes(vm.node) && vm.desired === Desired.DESIRED_RUNNING && vm.reason === "NODE_LOST")
    .filter((vm) => knew(vm) && hasRoom(vm.cpuMillis))
    .map(({ vm, node }) => `${vm}: may begin anew, and is on ${node}, which has gone for good`);
}

/** I12: what a node says is written by its newest session alone. */
const noOldWord: SimChecker = ({ writes }) =>
  writes
    .filter(({ saidBy, session }) => saidBy !== "" && saidBy !== session)
    .map(({ vm, saidBy, session, atMs }) => `${vm}: written at ${atMs} ms by the word of ${saidBy}, when ${session} was the newest`);

/** I16: nothing grows beyond what is stated. */
const nothingPilesUp: SimChecker = ({ peaks }) =>
  Object.entries(peaks)
    .filter(([, { peak, cap }]) => peak > cap)
    .map(([what, { peak, cap }]) => `${what}: ${peak}, and at most ${cap} may be`);

/** I18: once it is calm, a VM can be made, runs, and can be deleted. */
const worksAgain: SimChecker = ({ probe: { runningMs, goneMs } }) => {
  if (runningMs === undefined) return ["in the calm, a new VM did not run"];
  return goneMs === undefined ? ["in the calm, a new VM ran and was not gone after it was deleted"] : [];
};

export const simCheckers: Readonly<Record<string, SimChecker>> = {
  I4: (history) => [...nothingSaidLost(history), ...strandedIn(history)],
  I7: nothingShared,
  I10: answersFitAnOrder,
  I12: noOldWord,
  I16: nothingPilesUp,
  I18: worksAgain,
};

/** All that is wrong with a history of the layer sim. */
export function judgeSim(history: SimHistory): Violation[] {
  const own = Object.entries(simCheckers).flatMap(([invariant, check]) => check(history).map((message) => ({ invariant, message })));
  return [...judge(history), ...own];
}
