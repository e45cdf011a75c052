// What only real processes can show, as judges of what was seen; the rest is judged as in the layer sim.
import type { History, Run, Violation } from "../observer/history.ts";
import type { Unguarded } from "./scanner.ts";

/** Somebody was told of this placement. Times are milliseconds since the begin. */
export interface Acknowledged {
  readonly vm: string;
  readonly epoch: number;
  readonly atMs: number;
}

/** A way into a VM, taken by its name: which placement was at its end. */
export interface Reached {
  readonly vm: string;
  readonly epoch: number;
  readonly fromMs: number;
  readonly toMs: number;
}

/** A try of one who must not be let in. */
export interface Intrusion {
  readonly who: string;
  readonly atMs: number;
  readonly wasLetIn: boolean;
}

/** What a process had at a moment. */
export interface Taken {
  readonly name: string;
  readonly files: number;
  readonly rssBytes: number;
}

/** A VMM, by what must be its own. */
export interface Placed {
  readonly pid: number;
  readonly vm: string;
  readonly epoch: number;
  readonly node: string;
  readonly fromMs: number;
  readonly toMs: number | undefined;
}

export interface ProcessHistory {
  readonly acknowledged: readonly Acknowledged[];
  readonly reached: readonly Reached[];
  readonly intrusions: readonly Intrusion[];
  readonly placed: readonly Placed[];
  readonly unguarded: readonly (Omit<Unguarded, "node"> & { readonly node: string })[];
  readonly taken: readonly Taken[];
  /** The most connections that the database had at once, of controllers. */
  readonly connections: number;
  /** What is left of VMs after all of them were deleted, in words. */
  readonly left: readonly string[];
  /** What the probe at the end could not do, in words. */
  readonly probe: readonly string[];
  /** Services that ended without being killed. */
  readonly ends: readonly { readonly name: string; readonly how: string }[];
}

/** Stated in docs/faults.md. */
export const caps = { files: 512, rssBytes: 600 * 2 ** 20, connections: 40 } as const;

type Judge = (seen: ProcessHistory) => string[];

/** I3: what is reached by its name is never an older placement than somebody was told of before, by whomever. */
const noWayBack: Judge = ({ reached, acknowledged }) =>
  reached.flatMap(({ vm, epoch, fromMs, toMs }) => {
    const told = acknowledged.filter((one) => one.vm === vm && one.atMs < fromMs).map((one) => one.epoch);
    const seen = reached.filter((one) => one.vm === vm && one.toMs < fromMs).map((one) => one.epoch);
    const newest = Math.max(0, ...told, ...seen);
    return epoch < newest ? [`${vm}: epoch ${epoch} was reached at ${toMs} ms, after ${newest}`] : [];
  });

/** I6 on the machine. */
const nothingLeft: Judge = ({ left }) => [...left];

/** I7: one VMM for each folder of a node at a time, and no placement has two. */
const nothingShared: Judge = ({ placed }) => {
  const wrong: string[] = [];
  for (const its of Map.groupBy(placed, ({ vm, epoch }) => `${vm} ${epoch}`).values()) {
    const nodes = new Set(its.map(({ node }) => node));
    if (nodes.size > 1) wrong.push(`${its[0]?.vm}: epoch ${its[0]?.epoch} ran on ${nodes.size} nodes`);
  }
  for (const [at, one] of placed.entries())
    for (const other of placed.slice(at + 1))
      if (one.node === other.node && one.vm === other.vm && overlap(one, other))
        wrong.push(`${one.vm}: pids ${one.pid} and ${other.pid} had one folder`);
  return wrong;
};

/** I16 */
const bounded: Judge = ({ taken, connections }) => [
  ...new Set(
    taken.flatMap(({ name, files, rssBytes }) => [
      ...(files > caps.files ? [`${name}: more than ${caps.files} open files`] : []),
      ...(rssBytes > caps.rssBytes ? [`${name}: more than ${caps.rssBytes} bytes of memory`] : []),
    ]),
  ),
  ...(connections > caps.connections ? [`${connections} connections to the database`] : []),
];

/** I17 */
const doorsHold: Judge = ({ intrusions }) =>
  intrusions.length === 0
    ? ["nobody tried to get in"]
    : intrusions.filter(({ wasLetIn }) => wasLetIn).map(({ who, atMs }) => `${who} was let in at ${atMs} ms`);

/** I18 */
const worksAgain: Judge = ({ probe }) => [...probe];

/** A service goes on unless it is killed. */
const goesOn: Judge = ({ ends }) => ends.map(({ name, how }) => `the ${name} ended by itself: ${how}`);

export const processJudges: Readonly<Record<string, Judge>> = {
  I3: noWayBack,
  I6: nothingLeft,
  I7: nothingShared,
  I16: bounded,
  I17: doorsHold,
  I18: worksAgain,
  run: goesOn,
};

export function judgeProcesses(seen: ProcessHistory): Violation[] {
  return Object.entries(processJudges).flatMap(([invariant, check]) => check(seen).map((message) => ({ invariant, message })));
}

/**
 * I2 and I5 hold as long as agent or fence of a node can act. VMs that ran twice, or after their end, on a node that had neither for a
 * while are excused; that nobody reaches them is judged all the same (I3).
 */
export function excused(violations: readonly Violation[], runs: History["runs"], unguarded: ProcessHistory["unguarded"]): Violation[] {
  const wasUnguarded = (run: Run): boolean => unguarded.some((time) => time.node === run.node && overlap(run, time));
  const strays = new Set(runs.filter(wasUnguarded).map(({ vm }) => vm));
  return violations.filter(({ invariant, message }) => !["I2", "I5"].includes(invariant) || !strays.has(message.split(":", 1)[0] ?? ""));
}

interface Span {
  readonly fromMs: number;
  readonly toMs: number | undefined;
}

function overlap(one: Span, other: Span): boolean {
  return one.fromMs < (other.toMs ?? Infinity) && other.fromMs < (one.toMs ?? Infinity);
}
