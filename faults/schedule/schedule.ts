// What happens in one run: who asks for what, and what breaks when. Drawn from a seed, and nothing else.
import { failpointList, seededRandom, type FailpointName, type StepName } from "@pitwall/runtime";

export const faultKinds = [
  "agent-crash",
  "power-loss",
  "fence",
  "controller-crash",
  "controller-pause",
  "database-away",
  "partition",
  "one-way-up",
  "one-way-down",
  "slow",
  "duplicate",
  "late-copy",
  "uneven",
  "reset",
  "partial-hello",
  "database-down",
  "disk-broken",
  "clock-jump",
  "crash-at",
  "disk-broken-at",
  "node-gone",
] as const;
export type FaultKind = (typeof faultKinds)[number];

export interface Fault {
  readonly kind: FaultKind;
  readonly atMs: number;
  readonly forMs: number;
  /** Index of a node or a controller, as the kind has it. */
  readonly victim: number;
  /** Of a network fault: the controller whose link breaks; undefined: all. */
  readonly controller: number | undefined;
  /** Of `crash-at` and `disk-broken-at`: it happens when the victim passes this failpoint next. */
  readonly step: StepName | undefined;
}

/** What owners do with a VM that is there. */
const changes = ["start", "stop", "restart", "update", "rename", "delete", "undelete"] as const;
/** After which it stands still, until it is started or stopped. */
const holds = ["pause", "suspend"] as const;
export type OpKind = "create" | "get" | (typeof changes)[number] | (typeof holds)[number];

export interface Op {
  readonly kind: OpKind;
  readonly atMs: number;
  /** Number of the VM in this schedule, from 0. */
  readonly vm: number;
  /** Of a create: it may begin anew elsewhere. */
  readonly moves: boolean;
  /** Of a create. Default: the API's. */
  readonly cpuMillis?: number;
  /** The controller that is asked first. */
  readonly controller: number;
}

/** What an administrator does with a node; what was cordoned is uncordoned before the calm. */
export interface NodeOp {
  readonly kind: "cordon" | "uncordon" | "drain";
  readonly atMs: number;
  readonly node: number;
  readonly controller: number;
}

export interface Schedule {
  readonly seed: string;
  readonly nodes: number;
  readonly controllers: number;
  /** For how long a deleted VM can be brought back; 0: not at all. */
  readonly undeleteWindowMs: number;
  /** Until then nothing breaks. */
  readonly firstFaultMs: number;
  readonly ops: readonly Op[];
  readonly nodeOps: readonly NodeOp[];
  readonly faults: readonly Fault[];
}

/** What this layer leaves out. */
const left = /^(jail|net|fence\.|create\.(pull|flatten)|tunnel|create\.api\.replied|lease\.resigned)/;

/** The failpoints that are passed in this layer. */
export const steps = (Object.keys(failpointList) as FailpointName[]).filter(isStep); // the keys of that very list

function isStep(name: FailpointName): name is StepName {
  const { owner, kind } = failpointList[name];
  return kind === "step" && (owner === "controller" || owner === "node") && !left.test(name);
}

/** Where the faults that wait for one may wait. */
const places: Readonly<Partial<Record<FaultKind, readonly StepName[]>>> = {
  "crash-at": steps,
  "disk-broken-at": steps.filter((name) => failpointList[name].owner === "node" && failpointList[name].writes),
};

const controllerCount = 2;
/** Until then nodes link. */
export const trafficFromMs = 1_000;

/** How much a schedule holds. */
interface Scope {
  readonly vms: readonly [least: number, most: number];
  /** So many creates come before the first fault, however few VMs there are: what counts as traffic. */
  readonly earlyCreates: number;
  /** When they come at the latest. */
  readonly earlyUntilMs: number;
  readonly firstFaultMs: number;
  readonly lastFaultMs: number;
  readonly faults: readonly [least: number, most: number];
  readonly mostNodeOps: number;
  /** Owners go on for so long after the last fault has begun. */
  readonly afterMs: number;
  /** Of faults. */
  readonly longChance: number;
  readonly longMs: readonly [least: number, most: number];
  readonly longestMs: readonly [least: number, most: number];
}

export const scopes = {
  small: {
    ...{ vms: [2, 5], earlyCreates: 2, faults: [2, 5], mostNodeOps: 2 },
    ...{ earlyUntilMs: 1_200, firstFaultMs: 1_400, lastFaultMs: 6_000, afterMs: 1_500 },
    ...{ longChance: 0.4, longMs: [5_000, 20_000], longestMs: [15_000, 22_000] },
  },
  /** What more VMs show, more schedules do as well. Nodes have room for two thirds of them (world.ts). */
  large: {
    ...{ vms: [6, 16], earlyCreates: 6, faults: [3, 8], mostNodeOps: 4 },
    ...{ earlyUntilMs: 1_500, firstFaultMs: 2_000, lastFaultMs: 14_000, afterMs: 3_000 },
    ...{ longChance: 0.4, longMs: [5_000, 20_000], longestMs: [15_000, 25_000] },
  },
} as const satisfies Readonly<Record<string, Scope>>;
/** Of all schedules: most of what goes wrong does so with little, and then sooner (docs/faults.md, "Small or large"). */
const smallShare = 0.9;

/** The chances of each change, and of reads, beside each create; by profile. */
const profiles = [
  { start: 0.1, stop: 0.2, restart: 0.1, update: 0.1, rename: 0.05, delete: 0.2, undelete: 0.1, get: 0.2 },
  { start: 0.5, stop: 0.6, restart: 0.3, update: 0.3, rename: 0.1, delete: 0.8, undelete: 0.4, get: 0.2 },
  { start: 0.3, stop: 0.3, restart: 0.2, update: 0.2, rename: 0.2, delete: 0.3, undelete: 0.2, get: 1.5 },
] as const;
/** Of all schedules: so many have VMs that are paused and suspended. */
const holdingShare = 0.4;
/** Of their VMs, by each kind; and of those, so many are started again. */
const [holdChance, goOnChance] = [0.4, 0.7];
/** Of schedules with several nodes: so many have one that goes for good. */
const goneShare = 0.12;
const windowMs = 5_000;
/** Faults that wait at a failpoint come more often than others, as there are many places; late copies, as they need two changes of one VM. */
const weights: Readonly<Partial<Record<FaultKind, number>>> = {
  ...{ "crash-at": 6, "disk-broken-at": 2, "late-copy": 2 },
  "node-gone": 0, // drawn apart
};
const drawnKinds = faultKinds.flatMap((kind) => Array<FaultKind>(weights[kind] ?? 1).fill(kind));

/** Times are milliseconds since the begin. `scope`: instead of the one that the seed draws. */
export function makeSchedule(seed: string, scope?: keyof typeof scopes): Schedule {
  const random = seededRandom(seed, "schedule");
  const drawn = random() < smallShare ? "small" : "large";
  const { earlyCreates, earlyUntilMs, firstFaultMs, lastFaultMs, afterMs, ...size }: Scope = scopes[scope ?? drawn];
  const whole = (from: number, to: number): number => from + Math.floor(random() * (to - from + 1));
  const nodes = whole(1, 3);
  const vms = whole(...size.vms);
  const profile = profiles[whole(0, profiles.length - 1)] ?? profiles[0];
  const reschedules = random();
  const controller = (): number => whole(0, controllerCount - 1);
  const ops: Op[] = [];
  for (let vm = 0; vm < vms; vm++) {
    // A third of them late, so that there is traffic amid faults.
    const isEarly = vm < earlyCreates || random() < 0.5;
    const atMs = isEarly ? whole(trafficFromMs, earlyUntilMs) : whole(firstFaultMs, lastFaultMs);
    ops.push({ kind: "create", atMs, vm, moves: random() < reschedules, controller: controller() });
    for (const kind of [...changes, "get"] as const)
      for (let chance: number = profile[kind]; random() < chance; chance -= 1)
        ops.push({
          kind,
          atMs: Math.min(atMs + whole(100, lastFaultMs), lastFaultMs + whole(0, afterMs)),
          vm,
          moves: false,
          controller: controller(),
        });
  }
  ops.push(...drawHolds(seed, ops, lastFaultMs, lastFaultMs + afterMs));
  const nodeOps = Array.from({ length: random() < 0.5 ? 0 : whole(1, size.mostNodeOps) }, (): NodeOp => {
    const kind = (["cordon", "uncordon", "drain"] as const)[whole(0, 2)] ?? "cordon";
    return { kind, atMs: whole(firstFaultMs, lastFaultMs), node: whole(0, nodes - 1), controller: controller() };
  });
  const faults = Array.from({ length: whole(...size.faults) }, (): Fault => {
    const kind = drawnKinds[whole(0, drawnKinds.length - 1)] ?? "agent-crash";
    const long = random() < size.longChance;
    const step = places[kind]?.[whole(0, places[kind].length - 1)];
    const atMs = whole(firstFaultMs, lastFaultMs);
    const forMs = longKinds.has(kind) ? whole(...size.longestMs) : long ? whole(...size.longMs) : whole(50, 5_000);
    return {
      kind,
      atMs,
      // Copies are late of what owners change: for as long as they do.
      forMs: kind === "late-copy" ? Math.max(forMs, lastFaultMs + afterMs - atMs) : forMs,
      victim: isOfController({ kind, step }) ? controller() : whole(0, nodes - 1),
      controller: random() < 0.5 ? undefined : controller(),
      step,
    };
  });
  faults.push(...drawGone(seed, nodes, firstFaultMs, lastFaultMs));
  const byTime = (a: { readonly atMs: number }, b: { readonly atMs: number }): number => a.atMs - b.atMs;
  return {
    ...{ seed, nodes, controllers: controllerCount, undeleteWindowMs: random() < 0.5 ? 0 : windowMs, firstFaultMs },
    ...{ ops: ops.toSorted(byTime), nodeOps: nodeOps.toSorted(byTime), faults: faults.toSorted(byTime) },
  };
}

/** From a stream of its own: what else the seed draws is the same without. */
function drawHolds(seed: string, ops: readonly Op[], withinMs: number, lastMs: number): Op[] {
  const random = seededRandom(seed, "holds");
  if (random() >= holdingShare) return [];
  return ops
    .filter(({ kind }) => kind === "create")
    .flatMap(({ vm, atMs, controller }) =>
      holds.flatMap((kind): Op[] => {
        if (random() >= holdChance) return [];
        const of = { vm, moves: false, controller: random() < 0.5 ? controller : 1 - controller };
        const heldMs = Math.min(atMs + 500 + Math.floor(random() * withinMs), lastMs);
        const goOnMs = Math.min(heldMs + Math.floor(random() * withinMs), lastMs);
        return [{ kind, atMs: heldMs, ...of }, ...(random() < goOnChance ? [{ kind: "start" as const, atMs: goOnMs, ...of }] : [])];
      }),
    );
}

/** From a stream of its own as well. The first node stays: somebody must be there for the others' VMs, and for the probe. */
function drawGone(seed: string, nodes: number, fromMs: number, toMs: number): Fault[] {
  const random = seededRandom(seed, "gone");
  if (nodes === 1 || random() >= goneShare) return [];
  const victim = 1 + Math.floor(random() * (nodes - 1));
  const atMs = fromMs + Math.floor(random() * (toMs - fromMs + 1));
  return [{ kind: "node-gone", atMs, forMs: 0, victim, controller: undefined, step: undefined }];
}

/** Otherwise its victim is a node. */
export function isOfController({ kind, step }: Pick<Fault, "kind" | "step">): boolean {
  if (step !== undefined) return failpointList[step].owner === "controller";
  return kind === "database-down" || kind === "controller-crash" || kind === "controller-pause" || kind === "database-away";
}

/** What shows little unless it outlasts a lease and its fence. */
const longKinds: ReadonlySet<FaultKind> = new Set(["uneven", "clock-jump", "database-down"]);

/** What strikes a node, and no link of it. */
const ofHost: ReadonlySet<FaultKind> = new Set(["agent-crash", "power-loss", "fence", "disk-broken", "clock-jump", "node-gone"]);

/** As a failure is told. */
export function faultLine(fault: Fault): string {
  const { kind, atMs, forMs, victim, controller, step } = fault;
  if (kind === "node-gone") return `node ${victim} gone for good at ${atMs}`;
  if (kind === "database-down") return `${kind} at ${atMs} for ${forMs} ms`;
  const who = isOfController(fault) ? `controller ${victim}` : `node ${victim}`;
  if (step !== undefined) return `${kind} ${step} of ${who} from ${atMs} for ${forMs} ms`;
  const to = isOfController(fault) || ofHost.has(kind) ? "" : ` to ${controller === undefined ? "all" : `controller ${controller}`}`;
  return `${kind} of ${who}${to} at ${atMs} for ${forMs} ms`;
}

export function nodeOpLine({ kind, node, atMs }: NodeOp): string {
  return `${kind} of node ${node} at ${atMs}`;
}
