// One schedule in a world that stands: traffic, faults, calm, and a look at all that was seen. Afterwards the world is as it was before.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { messageChain, sleepOrAbort, systemClock } from "@pitwall/runtime";
import { Phase } from "@pitwall/sdk";
import { judge } from "../checkers/checkers.ts";
import type { Call, History, Trouble, Violation } from "../observer/history.ts";
import { Clients } from "./clients.ts";
import { capacity, type Installation } from "./installation.ts";
import { excused, judgeProcesses } from "./judges.ts";
import { calmLook, runsIn, storedOf, type Look } from "./look.ts";
import { findIntruders, intrudeAlways, measureAlways, reach, reachAlways } from "./probers.ts";
import { concerns, firstFaultMs, type ProcessSchedule } from "./schedule.ts";
import { heal, strike } from "./strike.ts";

/** How long the calm may last, from when nothing is broken and everybody was answered. Not a fifth: reconnecting and judging of nodes have
 * waits of their own. */
const calmLimitMs = 60_000;
/** After all are deleted. Times the pace, as the next one. */
const emptyLimitMs = 20_000;
const probeLimitMs = 20_000;
const lookMs = 100;
/** etcd's rule: with less traffic than that, 5 changes a second, before the first fault, a run proves nothing. */
const leastChanges = (5 * firstFaultMs) / 1_000;
/** For which a slow machine is waited for until it has answered as many. */
const trafficLimitMs = 15_000;
/** The scanner's, and the clocks'. */
const resolutionMs = 150;
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

/** What happens besides the schedule. */
export interface Incident {
  /** Resolves to whether it did happen: a run in which it did not proves nothing. */
  readonly happen: (installation: Installation, clients: Clients) => Promise<boolean>;
  /** Whether something is wrong with this node in the run. */
  readonly concerns: (node: number) => boolean;
}

export async function runProcessSchedule(
  installation: Installation,
  schedule: ProcessSchedule,
  incident?: Incident,
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
  let seen: Look;
  let isCalm: boolean;
  let hasHappened: boolean | void;
  let lateMs: number;
  try {
    await Promise.race([clients.watches, systemClock.sleep(settleMs * installation.pace)]);
    const begunMs = systemClock.monotonicMs();
    const isLate = schedule.ops.length === 0 ? Promise.resolve(0) : trafficIsLate(clients);
    const at = async (ms: number): Promise<void> => {
      const dueMs = begunMs + ms + (ms < firstFaultMs ? 0 : await isLate);
      await systemClock.sleep(Math.max(0, dueMs - systemClock.monotonicMs()));
    };
    const breaking = schedule.faults.map(async (fault) => {
      await at(fault.atMs);
      await strike(installation, fault).catch((error: unknown) => failures.push(`${fault.kind}: ${messageChain(error)}`));
    });
    const asking = schedule.ops.map(async (op) => {
      await at(op.atMs);
      await clients.call(op);
    });
    lateMs = await isLate;
    [hasHappened = true] = await Promise.all([incident?.happen(installation, clients), ...breaking]);
    heal(installation);
    await Promise.all(asking); // the calm begins behind the last change: that one, too, is given its time
    ({ seen, isCalm } = await calmLook(installation, clients, calmLimitMs));
    if (!isCalm) await tellActivity(installation);
  } finally {
    stop.abort();
  }
  const [intrusions, reached, measured] = await Promise.all([intruding, reaching, measuring, watching]);
  const { nodeIds } = installation;
  const history: History = {
    ...seen,
    gone: [],
    calls: clients.calls,
    watched: clients.watched,
    runs: runsIn(seen, installation, originMs),
    troubles: troublesOf(schedule, lateMs, incident, installation, Date.now() - originMs),
    ...{ capacity, patienceMs: installation.patienceMs, resolutionMs },
  };
  const idOf = (node: number): string => nodeIds[node] ?? String(node);
  const placed = seen.vmms.map((vmm) => ({ ...vmm, node: idOf(vmm.node) }));
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
  const isValid = incident ? hasHappened : hadTraffic(schedule, lateMs, history);
  // What did not happen could still happen to the next run.
  const isClean = left.length === 0 && probe.length === 0 && hasHappened;
  return { seed: schedule.seed, isValid, violations, isClean, counts };
}

/** By how much what comes after the first changes comes later than it was drawn. */
async function trafficIsLate({ calls }: Clients): Promise<number> {
  const begunMs = systemClock.monotonicMs();
  const isAnswered = (): boolean => calls.filter(isAnsweredChange).length >= leastChanges;
  while (!isAnswered() && systemClock.monotonicMs() - begunMs < trafficLimitMs) await systemClock.sleep(lookMs);
  return Math.max(0, systemClock.monotonicMs() - begunMs - firstFaultMs);
}

const isAnsweredChange = ({ kind, outcome }: Call): boolean => kind !== "get" && outcome === "ok";

function hadTraffic({ faults }: ProcessSchedule, lateMs: number, { calls }: History): boolean {
  const firstMs = Math.min(faults[0]?.atMs ?? firstFaultMs, 2_000) + lateMs;
  return calls.filter((call) => isAnsweredChange(call) && call.toMs <= firstMs).length >= leastChanges;
}

/** What the database is busy with, for whoever looks into why there was no calm. */
async function tellActivity({ database, dir }: Installation): Promise<void> {
  const busy = await database.query(
    `select pid, application_name, client_port, state, wait_event_type, wait_event, xact_start, state_change, pg_blocking_pids(pid) as blocked_by, query
     from pg_stat_activity where client_addr is not null order by xact_start`,
  );
  await writeFile(join(dir, "log", "database-activity.json"), JSON.stringify(busy, undefined, 1));
}

/** The probe at the end: a VM comes, is reached, and goes; all others go too, and leave nothing. */
async function endToEnd(installation: Installation): Promise<{ probe: string[]; left: string[] }> {
  const probe: string[] = [];
  const { vms } = installation.client();
  try {
    const spec = { image: installation.image, cpuMillis: 100, memBytes: 128n << 20n, diskBytes: 64n << 20n };
    const made = await vms.create({ name: "probe", spec });
    const running = await vms.wait(made.id, { timeoutMs: probeLimitMs * installation.pace });
    if (running.phase !== Phase.PHASE_RUNNING) probe.push(`a new VM got to phase ${running.phase}: ${running.message}`);
    else if ((await reach(installation, "probe")).vm !== made.id) probe.push("a new VM's name leads elsewhere");
  } catch (error) {
    probe.push(`a new VM could not be created and reached: ${messageChain(error)}`);
  }
  const deadline = systemClock.monotonicMs() + emptyLimitMs * installation.pace;
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

/** What goes wrong with the machine that all this runs on is wrong with every node. */
function troublesOf(
  { faults }: ProcessSchedule,
  lateMs: number,
  incident: Incident | undefined,
  { nodeIds, scanner, pace }: Installation,
  untilMs: number,
): Trouble[] {
  return nodeIds.flatMap((node, index) => [
    ...(scanner.wasStarved || incident?.concerns(index) === true ? [{ node, fromMs: 0, toMs: untilMs }] : []),
    ...faults
      .filter((fault) => concerns(fault, index))
      .map(({ atMs, forMs }) => ({ node, fromMs: atMs + lateMs, toMs: atMs + lateMs + forMs + settleMs * pace })),
  ]);
}
