// What happens in one run of real processes: who asks for what, and what breaks when. Drawn from a seed, and nothing else.
import { seededRandom } from "@pitwall/runtime";

export const processFaults = [
  "agent-kill",
  "agent-stop",
  "agent-doubles",
  "fence-kill",
  "fence-stop",
  "vmm-kill",
  "vmm-stop",
  "machine-loss",
  "disk-full",
  "node-partition",
  "node-deaf",
  "node-mute",
  "node-reset",
  "node-unplugged",
  "node-loses-packets",
  "node-slow-line",
  "node-clock-jump",
  "controller-kill",
  "controller-stop",
  "controller-doubles",
  "controller-without-database",
  "controller-without-neighbours",
  "controller-clock-jump",
  "gateway-kill",
  "gateway-stop",
  "database-restart",
  "database-crash",
  "database-full",
] as const;
export type ProcessFaultKind = (typeof processFaults)[number];

/** Times are milliseconds since the begin. */
export interface ProcessFault {
  readonly kind: ProcessFaultKind;
  readonly atMs: number;
  readonly forMs: number;
  /** Of a node or a controller, as the kind has it. */
  readonly victim: number;
  /** Of a network fault: the controller that is cut off; undefined: everybody. */
  readonly controller: number | undefined;
}

export interface ProcessOp {
  readonly kind: "create" | "start" | "stop" | "delete" | "get";
  readonly atMs: number;
  /** Number of the VM in this schedule, from 0. */
  readonly vm: number;
  /** Of a create: it may begin anew elsewhere. */
  readonly moves: boolean;
  /** Of a create; undefined: that of all. */
  readonly image?: string;
}

export interface ProcessSchedule {
  readonly seed: string;
  readonly ops: readonly ProcessOp[];
  readonly faults: readonly ProcessFault[];
}

export const nodeCount = 3;
export const controllerCount = 2;
export const firstFaultMs = 1_200;
const lastFaultMs = 4_500;
const lastOpMs = 5_500;
/** Before the first fault: changes that are answered make a schedule valid. */
const earlyCreates = 9;
const earlyMs = 300;

export function isOfController(kind: ProcessFaultKind): boolean {
  return kind.startsWith("controller-");
}

/** Whether a fault is one of this node, or of its way to any controller. */
export function concerns({ kind, victim }: ProcessFault, node: number): boolean {
  if (/^(node|agent)-|^(machine-loss|disk-full)$/.test(kind)) return victim === node;
  return /^(controller|database)-/.test(kind);
}

/** Those of a node's network can be for one controller alone. */
function hasPeer(kind: ProcessFaultKind): boolean {
  return kind === "node-partition" || kind === "node-deaf" || kind === "node-mute" || kind === "node-reset";
}

/** `kinds` are those that are possible here. */
export function makeProcessSchedule(seed: string, kinds: readonly ProcessFaultKind[] = processFaults): ProcessSchedule {
  const random = seededRandom(seed, "process");
  const whole = (from: number, to: number): number => from + Math.floor(random() * (to - from + 1));
  const ops: ProcessOp[] = [];
  const vms = earlyCreates + whole(1, 4);
  for (let vm = 0; vm < vms; vm++) {
    const atMs = vm < earlyCreates ? whole(0, earlyMs) : whole(firstFaultMs, lastOpMs);
    ops.push({ kind: "create", atMs, vm, moves: random() < 0.6 });
    for (const [kind, chance] of [
      ["stop", 0.5],
      ["start", 0.25],
      ["get", 0.5],
      ["delete", 0.3],
    ] as const)
      if (random() < chance) ops.push({ kind, atMs: Math.min(lastOpMs, atMs + whole(300, lastOpMs)), vm, moves: false });
  }
  const faults = Array.from({ length: whole(2, 5) }, (): ProcessFault => {
    const kind = kinds[whole(0, kinds.length - 1)] ?? "agent-kill";
    const long = random() < 0.4;
    const victim = whole(0, (isOfController(kind) ? controllerCount : nodeCount) - 1);
    const controller = whole(0, controllerCount - 1);
    return {
      kind,
      atMs: whole(firstFaultMs, lastFaultMs),
      forMs: long ? whole(3_500, 6_000) : whole(50, 1_500),
      victim,
      controller: hasPeer(kind) && random() < 0.3 ? controller : undefined,
    };
  });
  const byTime = (a: { readonly atMs: number }, b: { readonly atMs: number }): number => a.atMs - b.atMs;
  return { seed, ops: ops.toSorted(byTime), faults: faults.toSorted(byTime) };
}

/** As a failure is told. */
export function processFaultLine({ kind, atMs, forMs, victim, controller }: ProcessFault): string {
  const isShared = kind.startsWith("gateway-") || kind.startsWith("database-");
  const who = isShared ? "" : ` ${isOfController(kind) ? "controller" : "node"} ${victim}`;
  const to = controller === undefined ? "" : ` to controller ${controller}`;
  return `${kind}${who}${to} at ${atMs} for ${forMs} ms`;
}
