// Looks at all processes of a world, every 50 ms: which VMMs run, of which VM and placement, on which node; which nodes nobody guards.
// It believes the kernel only: a process is known by pid and start time, and by its working folder.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { Run } from "../observer/history.ts";

const everyMs = 50;
/** USER_HZ, proc_pid_stat(5). */
const tickMs = 10;
/** Of what the kernel cuts off the start time, and the time since boot: no VMM is taken to have begun before it did. */
const roundingTicks = 2;

/**
 * A look at all processes that comes so late says that nobody got to run when they should. A lease of 3 s is renewed by five turns of
 * processes, one after the other (agent, controller, database, controller, agent): each so late is a lease that nobody let run out.
 */
const starvedMs = 600;

/** A VMM that was seen. Times are wall-clock milliseconds; `toMs` is when it was seen last, undefined while it lives. */
export interface SeenVmm {
  readonly pid: number;
  readonly vm: string;
  readonly node: number;
  readonly epoch: number;
  readonly fromMs: number;
  toMs: number | undefined;
}

/** A time in which neither agent nor fence of a node could act. */
export interface Unguarded {
  readonly node: number;
  readonly fromMs: number;
  toMs: number;
}

interface Stat {
  readonly state: string;
  readonly startTicks: number;
}

interface Known {
  readonly startTicks: number;
  readonly kind: "other" | "vmm" | "fence";
  readonly node: number;
  readonly vmm?: SeenVmm;
}

export class Scanner implements Disposable {
  /** Nodes' state folders are `DIR/node-0` and so on. */
  readonly #dir: string;
  readonly #agentOf: (node: number) => number | undefined;
  readonly #nodes: number;
  readonly #timer: NodeJS.Timeout;
  readonly #bootMs: number;
  #known = new Map<number, Known>();
  #lastScanMs = Date.now();
  readonly vmms: SeenVmm[] = [];
  readonly unguarded: Unguarded[] = [];
  readonly #starvedMs: number;
  /** Whether a look came too late since it last forgot. */
  wasStarved = false;
  /** When a look came too late, last, on the wall clock. */
  starvedAtMs = 0;

  /** `agentOf` tells the agent's pid, while it has one. Leases last `pace` times as long. */
  constructor(dir: string, nodes: number, pace: number, agentOf: (node: number) => number | undefined) {
    this.#dir = dir;
    this.#nodes = nodes;
    this.#starvedMs = starvedMs * pace;
    this.#agentOf = agentOf;
    this.#bootMs = Date.now() - Number(readFileSync("/proc/uptime", "latin1").split(" ", 1)[0]) * 1000;
    this.#timer = setInterval(() => this.scan(), everyMs);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  /** Those that live, as of the latest look. */
  get living(): readonly SeenVmm[] {
    return this.vmms.filter(({ toMs }) => toMs === undefined);
  }

  /** What was seen is forgotten, but for what lives. */
  forget(): void {
    this.vmms.splice(0, this.vmms.length, ...this.living);
    this.unguarded.length = 0;
    this.wasStarved = false;
  }

  /** Pids of a node's processes, by what they are. */
  pids(node: number, kind: "vmm" | "fence"): number[] {
    return [...this.#known].filter(([, known]) => known.kind === kind && known.node === node).map(([pid]) => pid);
  }

  scan(): void {
    const nowMs = Date.now();
    if (nowMs - this.#lastScanMs > this.#starvedMs) {
      this.wasStarved = true;
      this.starvedAtMs = nowMs;
    }
    const next = new Map<number, Known>();
    const agents = new Map(Array.from({ length: this.#nodes }, (_, node) => [this.#agentOf(node), node]));
    const acting = new Set<number>();
    for (const name of readdirSync("/proc")) {
      const pid = Number(name);
      if (!Number.isInteger(pid) || pid <= 1 || pid === process.pid) continue;
      const stat = readStat(pid);
      if (!stat || stat.state === "Z" || stat.state === "X") continue;
      const agent = agents.get(pid);
      if (agent !== undefined && stat.state !== "T") acting.add(agent);
      const before = this.#known.get(pid);
      const known = before?.startTicks === stat.startTicks ? before : this.#meet(pid, stat);
      if (!known) continue;
      next.set(pid, known);
      if (stat.state !== "T" && known.kind === "fence") acting.add(known.node);
    }
    for (const [pid, { vmm }] of this.#known) if (vmm && next.get(pid)?.vmm !== vmm) vmm.toMs = this.#lastScanMs;
    this.#known = next;
    for (let node = 0; node < this.#nodes; node++) if (!acting.has(node)) this.#isUnguarded(node, nowMs);
    this.#lastScanMs = nowMs;
  }

  /** Undefined: what it is cannot be said yet. */
  #meet(pid: number, { startTicks }: Stat): Known | undefined {
    const args = readArgs(pid);
    const cwd = readCwd(pid);
    if (args === undefined || cwd === undefined) return undefined;
    const other = { startTicks, kind: "other", node: -1 } as const;
    const program = args.findIndex((arg) => arg.endsWith("/sim/guest.ts"));
    if (program >= 0) {
      const [, node, vm] = /\/node-(\d+)\/vms\/([0-9a-f-]{36})(?: \(deleted\))?$/.exec(cwd.slice(this.#dir.length)) ?? [];
      if (node === undefined || vm === undefined) return other;
      const fromMs = this.#bootMs + (startTicks + roundingTicks) * tickMs;
      const vmm: SeenVmm = { pid, vm, node: Number(node), epoch: Number(args[program + 3]), fromMs, toMs: undefined };
      this.vmms.push(vmm);
      return { startTicks, kind: "vmm", node: vmm.node, vmm };
    }
    const [, fenced] = /\/node-(\d+)\/fence$/.exec(cwd) ?? [];
    if (fenced !== undefined && args[0]?.endsWith("-fence") === true) return { startTicks, kind: "fence", node: Number(fenced) };
    // Between fork and exec a process still looks like its parent.
    const isAgentLike = args.some((arg) => arg.endsWith("/node/src/main.ts"));
    return args.length === 0 || isAgentLike ? undefined : other;
  }

  #isUnguarded(node: number, nowMs: number): void {
    const last = this.unguarded.findLast((one) => one.node === node);
    if (last && last.toMs >= this.#lastScanMs) last.toMs = nowMs;
    else this.unguarded.push({ node, fromMs: this.#lastScanMs, toMs: nowMs });
  }
}

/** As the judges take them: by node id, in milliseconds since `originMs`. */
export function runsOf(vmms: readonly SeenVmm[], ids: readonly string[], originMs: number): Run[] {
  return vmms.map(({ vm, node, fromMs, toMs }) => ({
    vm,
    node: ids[node] ?? String(node),
    fromMs: fromMs - originMs,
    toMs: toMs === undefined ? undefined : Math.max(fromMs, toMs) - originMs,
  }));
}

function readStat(pid: number): Stat | undefined {
  const text = read(`/proc/${pid}/stat`);
  const fields = text?.slice(text.lastIndexOf(")") + 2).split(" ");
  return fields && { state: fields[0] ?? "", startTicks: Number(fields[19]) };
}

function readArgs(pid: number): string[] | undefined {
  return read(`/proc/${pid}/cmdline`)?.split("\0").slice(0, -1);
}

function readCwd(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}

/** Undefined when the process has gone. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}
