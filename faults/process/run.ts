// One schedule in a world that stands: traffic, faults, calm, and a look at all that was seen. Afterwards the world is as it was before.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { messageChain, sleepOrAbort, systemClock } from "@pitwall/runtime";
import { Desired, NodeState, Phase } from "@pitwall/sdk";
import { judge } from "../checkers/checkers.ts";
import type { FinalVm, History, RowWrite, SessionLoss, Trouble, Violation } from "../observer/history.ts";
import { Clients } from "./clients.ts";
import { capacity, patienceMs, type Installation } from "./installation.ts";
import { excused, judgeProcesses } from "./judges.ts";
import { findIntruders, intrudeAlways, measureAlways, reach, reachAlways } from "./probers.ts";
import { runsOf } from "./scanner.ts";
import { concerns, firstFaultMs, nodeCount, type ProcessSchedule } from "./schedule.ts";
import { heal, strike } from "./strike.ts";

/** How long the calm may last. Not a fifth: reconnecting and judging of nodes have waits of their own. */
const calmLimitMs = 60_000;
/** After all are deleted. */
const emptyLimitMs = 20_000;
const probeLimitMs = 20_000;
const lookMs = 100;
/** etcd's rule: with less traffic than that before the first fault, a run proves nothing. */
const leastPerSecond = 5;
/** The scanner's, and the clocks'. */
const resolutionMs = 150;
/** A look at all processes that comes so late says that nobody got to run when they should. */
const starvedMs = 1_000;
/** For a service to be up again, and for a node to find a controller. */
const settleMs = 10_000;

export interface ProcessVerdict {
  readonly seed: string;
  readonly isValid: boolean;
  readonly violations: readonly Violation[];
  /** Whether the world can be used for another schedule. */
  readonly isClean: boolean;
  readonly counts: Counts;
}

/** How much there was to judge. */
export interface Counts {
  /** Calls. */
  readonly answered: number;
  readonly vmms: number;
  /** Ways into VMs by their names. */
  readonly reached: number;
  /** Tries of those who must not be let in. */
  readonly refused: number;
}

/** What happens besides the schedule, and what must be seen of it. */
export type Incident = (installation: Installation, clients: Clients) => Promise<void>;

export async function runProcessSchedule(
  installation: Installation,
  schedule: ProcessSchedule,
  incident: Incident = async () => undefined,
): Promise<ProcessVerdict> {
  const { database, scanner } = installation;
  const intruders = await findIntruders(installation);
  const originMs = Date.now();
  scanner.forget();
  await database.query("delete from seen.vm_write");
  await database.query("delete from seen.loss");
  await database.query("update seen.origin set ms = $1", [originMs]);
  const clients = new Clients(installation, originMs);
  const stop = new AbortController();
  const watching = clients.watch(stop.signal);
  const intruding = intrudeAlways(installation, intruders, originMs, stop.signal);
  const reaching = reachAlways(installation, clients, originMs, stop.signal);
  const measuring = measureAlways(installation, stop.signal);
  const failures: string[] = [];
  try {
    const begunMs = systemClock.monotonicMs();
    const at = (ms: number): Promise<void> => systemClock.sleep(Math.max(0, begunMs + ms - systemClock.monotonicMs()));
    const breaking = schedule.faults.map(async (fault) => {
      await at(fault.atMs);
      await strike(installation, fault).catch((error: unknown) => failures.push(`${fault.kind}: ${messageChain(error)}`));
    });
    const asking = schedule.ops.map(async (op) => {
      await at(op.atMs);
      await clients.call(op);
    });
    await Promise.all([...breaking, incident(installation, clients)]);
    heal(installation);
    await Promise.all([...asking, calm(installation, clients)]);
  } finally {
    stop.abort();
  }
  const [intrusions, reached, measured] = await Promise.all([intruding, reaching, measuring, watching]);
  const history = await historyOf(installation, clients, originMs, troublesOf(schedule, installation, Date.now() - originMs));
  const { nodeIds } = installation;
  const idOf = (node: number): string => nodeIds[node] ?? String(node);
  const placed = scanner.vmms.map((vmm) => ({ ...vmm, node: idOf(vmm.node) }));
  const unguarded = scanner.unguarded.map(({ node, fromMs, toMs }) => ({
    node: idOf(node),
    fromMs: fromMs - originMs,
    toMs: toMs - originMs,
  }));
  const { probe, left } = await endToEnd(installation);
  const ends = installation.takeUnexpected();
  const counts = {
    answered: clients.calls.filter(({ outcome }) => outcome === "ok").length,
    vmms: placed.length,
    reached: reached.length,
    refused: intrusions.length,
  };
  const violations = [
    ...excused(judge(history), history.runs, unguarded),
    ...judgeProcesses({ acknowledged: clients.acknowledged, reached, intrusions, placed, unguarded, ...measured, left, probe, ends }),
    ...failures.map((message) => ({ invariant: "harness", message })),
  ];
  const isClean = left.length === 0 && probe.length === 0;
  return { seed: schedule.seed, isValid: hadTraffic(schedule, history), violations, isClean, counts };
}

function hadTraffic({ faults }: ProcessSchedule, { calls }: History): boolean {
  const firstMs = Math.min(faults[0]?.atMs ?? firstFaultMs, 2_000);
  const changes = calls.filter(({ kind, outcome, toMs }) => kind !== "get" && outcome === "ok" && toMs <= firstMs).length;
  return changes >= (leastPerSecond * firstFaultMs) / 1_000;
}

/** Resolves when all is as it should be, so that waiting longer shows nothing more, or when the time is up: then that is judged. */
async function calm(installation: Installation, clients: Clients): Promise<void> {
  const deadline = systemClock.monotonicMs() + calmLimitMs;
  while (systemClock.monotonicMs() < deadline) {
    if (await isCalm(installation, clients).catch(() => false)) return;
    await systemClock.sleep(lookMs);
  }
  // What the database was busy with, for whoever looks into it.
  const busy = await installation.database.query(
    `select pid, application_name, client_port, state, wait_event_type, wait_event, xact_start, state_change, pg_blocking_pids(pid) as blocked_by, query
     from pg_stat_activity where client_addr is not null order by xact_start`,
  );
  await writeFile(join(installation.dir, "log", "database-activity.json"), JSON.stringify(busy, undefined, 1));
}

async function isCalm(installation: Installation, clients: Clients): Promise<boolean> {
  const { services, scanner, operator, nodeIds } = installation;
  if (!services.every(({ isUp }) => isUp)) return false;
  const nodes = await operator.listNodes();
  if (nodes.filter(({ state }) => state === NodeState.NODE_STATE_READY).length < nodeCount) return false;
  const final = await finalOf(installation);
  const living = new Set(scanner.living.map(({ vm, node }) => `${vm} ${nodeIds[node]}`));
  const running = final.filter(({ phase }) => phase === Phase.PHASE_RUNNING);
  const isSettled = ({ desired, phase, reason, observed, generation }: FinalVm): boolean =>
    observed === generation &&
    (desired === Desired.DESIRED_RUNNING
      ? phase === Phase.PHASE_RUNNING || (phase === Phase.PHASE_FAILED && !/^(LEASE_LOST|NODE_)/.test(reason))
      : phase === Phase.PHASE_STOPPED || phase === Phase.PHASE_FAILED);
  const isWhole = living.size === running.length && running.every(({ vm, node }) => living.has(`${vm} ${node}`));
  if (!final.every(isSettled) || !isWhole) return false;
  if ((await storedOf(installation)).length > final.length) return false;
  const shown = new Set(clients.watched.map(({ vm, revision }) => `${vm}/${revision}`));
  return (await eventsOf(installation)).every(({ vm, revision }) => shown.has(`${vm}/${revision}`));
}

/** The probe at the end: a VM comes, is reached, and goes; all others go too, and leave nothing. */
async function endToEnd(installation: Installation): Promise<{ probe: string[]; left: string[] }> {
  const probe: string[] = [];
  const { vms } = installation.client();
  try {
    const spec = { image: installation.image, cpuMillis: 100, memBytes: 128n << 20n, diskBytes: 64n << 20n };
    const made = await vms.create({ name: "probe", spec });
    const running = await vms.wait(made.id, { timeoutMs: probeLimitMs });
    if (running.phase !== Phase.PHASE_RUNNING) probe.push(`a new VM got to phase ${running.phase}: ${running.message}`);
    else if ((await reach(installation, "probe")).vm !== made.id) probe.push("a new VM's name leads elsewhere");
  } catch (error) {
    probe.push(`a new VM could not be created and reached: ${messageChain(error)}`);
  }
  const deadline = systemClock.monotonicMs() + emptyLimitMs;
  let left: string[] = [];
  try {
    const ids: string[] = [];
    for await (const { id } of vms.list()) ids.push(id);
    await Promise.all(ids.map((id) => vms.delete(id)));
  } catch (error) {
    probe.push(`VMs could not be deleted: ${messageChain(error)}`);
  }
  do {
    await sleepOrAbort(lookMs, new AbortController().signal);
    left = await leftOf(installation);
  } while (left.length > 0 && systemClock.monotonicMs() < deadline);
  return { probe, left };
}

/** What nodes and database still have of any VM, in words. */
async function leftOf(installation: Installation): Promise<string[]> {
  const { scanner, nodes, database } = installation;
  const rows = await database.query<{ id: string }>("select id from vm");
  const sockets = await Promise.all(
    nodes.map(async ({ pid, name }) => {
      const listed = pid === undefined ? "" : await readFile(`/proc/${pid}/net/unix`, "utf8").catch(() => "");
      return /(guest|rpc)\.sock/.test(listed) ? [`${name}: a socket of a VM`] : [];
    }),
  );
  return [
    ...rows.map(({ id }) => `${id}: a row`),
    ...scanner.living.map(({ vm, node, pid }) => `${vm}: node-${node} has its VMM, pid ${pid}`),
    ...(await storedOf(installation)).map(({ vm, node }) => `${vm}: ${node} keeps its folder`),
    ...sockets.flat(),
  ];
}

async function storedOf({ dir, nodeIds }: Installation): Promise<{ node: string; vm: string }[]> {
  const all = await Promise.all(
    nodeIds.map(async (node, index) => (await readdir(join(dir, `node-${index}`, "vms")).catch(() => [])).map((vm) => ({ node, vm }))),
  );
  return all.flat();
}

/** What goes wrong with the machine that all this runs on is wrong with every node. */
function troublesOf({ faults }: ProcessSchedule, { nodeIds, scanner }: Installation, untilMs: number): Trouble[] {
  const isStarved = scanner.longestGapMs > starvedMs;
  return nodeIds.flatMap((node, index) => [
    ...(isStarved ? [{ node, fromMs: 0, toMs: untilMs }] : []),
    ...faults.filter((fault) => concerns(fault, index)).map(({ atMs, forMs }) => ({ node, fromMs: atMs, toMs: atMs + forMs + settleMs })),
  ]);
}

async function historyOf(installation: Installation, clients: Clients, originMs: number, troubles: readonly Trouble[]): Promise<History> {
  const { database, scanner, nodeIds } = installation;
  const writes = await database.query<Record<string, string>>("select * from seen.vm_write order by seq");
  const losses = await database.query<{ node: string; lost_ms: number; renewed_ms: number }>("select * from seen.loss");
  const audited = await database.query<{ request_id: string }>("select request_id from audit_entry where request_id is not null");
  return {
    calls: clients.calls,
    writes: writes.map(toWrite),
    runs: runsOf(scanner.vmms, nodeIds, originMs),
    watched: clients.watched,
    events: await eventsOf(installation),
    final: await finalOf(installation),
    stored: await storedOf(installation),
    capacity,
    losses: losses.map(({ node, lost_ms, renewed_ms }): SessionLoss => ({ node, lostMs: lost_ms, renewedMs: renewed_ms })),
    troubles,
    patienceMs,
    resolutionMs,
    audited: audited.map(({ request_id }) => request_id),
  };
}

/** Of the VMs of this schedule. */
async function eventsOf({ database }: Installation): Promise<{ vm: string; revision: number }[]> {
  const rows = await database.query<{ vm_id: string; revision: string }>(
    "select vm_id, revision from vm_event where vm_id in (select vm from seen.vm_write)",
  );
  return rows.map(({ vm_id, revision }) => ({ vm: vm_id, revision: Number(revision) }));
}

async function finalOf({ database }: Installation): Promise<FinalVm[]> {
  const rows = await database.query<Record<string, string>>(
    "select id, node_id, desired, phase, reason, generation, observed_generation, revision from vm",
  );
  const text = (row: Record<string, string>, key: string): string => row[key] ?? "";
  return rows.map((row) => ({
    ...{ vm: text(row, "id"), node: text(row, "node_id"), desired: Number(row["desired"]), phase: Number(row["phase"]) },
    ...{ reason: text(row, "reason"), generation: Number(row["generation"]), observed: Number(row["observed_generation"]) },
    revision: Number(row["revision"]),
  }));
}

/** Integers of 64 bits come as text. */
function toWrite(row: Record<string, string>): RowWrite {
  const number = (key: string): number => Number(row[key]);
  return {
    ...{ seq: number("seq"), atMs: number("at_ms"), op: row["op"] as RowWrite["op"], vm: row["vm"] ?? "", node: row["node"] ?? "" },
    ...{ epoch: number("epoch"), generation: number("generation"), observed: number("observed"), desired: number("desired") },
    ...{ phase: number("phase"), cpuMillis: number("cpu_millis"), memBytes: number("mem_bytes"), request: row["request"] ?? "" },
  };
}
