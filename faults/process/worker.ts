// A worker of the layer of processes, alone in its namespaces: starts a world, runs schedules in it as long as it stays clean, and answers
// each with its verdict.
import { once } from "node:events";
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { messageChain } from "@pitwall/runtime";
import { Installation } from "./installation.ts";
import type { Makings } from "./makings.ts";
import { directedRunOf } from "./directed.ts";
import { concernsNode, direct } from "./incident.ts";
import { runProcessSchedule, type Counts, type Incident } from "./run.ts";
import { makeProcessSchedule, processFaultLine, type ProcessSchedule } from "./schedule.ts";

/** What a worker is told, one at a time: a seed, or what it would draw. */
export type ProcessTask = string | ProcessSchedule;

export interface ProcessAnswer {
  readonly seed: string;
  readonly isValid: boolean;
  readonly isClean: boolean;
  readonly violations: readonly { readonly invariant: string; readonly message: string }[];
  readonly told: string;
  /** Undefined when it did not come to an end. */
  readonly counts: Counts | undefined;
}

const [makingsText = "", logs = "", dir = ""] = process.argv.slice(2);
const makings = JSON.parse(makingsText) as Makings; // campaign.ts made it
const kinds = makings.kinds;
const startedMs = performance.now();
const starting = Installation.start(makings, dir);
starting.catch(() => undefined); // heard below

function drawn(seed: string): { schedule: ProcessSchedule; incident?: Incident } {
  const run = directedRunOf(seed);
  if (!run) return { schedule: paced(makeProcessSchedule(seed, kinds)) };
  const happen: Incident["happen"] = (installation, clients) => direct(run, installation, clients);
  return { schedule: { seed, ops: [], faults: [] }, incident: { happen, concerns: (node) => concernsNode(run, node) } };
}

/** What outlasts a lease is to do so at any pace. */
function paced({ faults, ...schedule }: ProcessSchedule): ProcessSchedule {
  return { ...schedule, faults: faults.map((fault) => ({ ...fault, forMs: fault.forMs * makings.pace })) };
}

async function answer(task: ProcessTask): Promise<ProcessAnswer> {
  const { schedule, incident } = typeof task === "string" ? drawn(task) : { schedule: task };
  const { seed } = schedule;
  const told = schedule.faults.map(processFaultLine).join("; ");
  try {
    const verdict = await runProcessSchedule(await starting, schedule, incident);
    if (verdict.violations.length > 0 || !verdict.isValid) await keepLogs(seed);
    return { ...verdict, told };
  } catch (error) {
    await keepLogs(seed);
    return {
      seed,
      isValid: true,
      isClean: false,
      violations: [{ invariant: "run", message: messageChain(error) }],
      told,
      counts: undefined,
    };
  }
}

/** What services said, for whoever looks into a violation. */
async function keepLogs(seed: string): Promise<void> {
  if (logs === "") return;
  const to = join(logs, seed.replaceAll("/", "-"));
  await mkdir(to, { recursive: true });
  await cp(join(dir, "log"), to, { recursive: true });
}

process.on("message", (task: ProcessTask) => {
  void answer(task).then((verdict) => process.send?.(verdict));
});
void starting.then(() => process.stderr.write(`a world was started in ${((performance.now() - startedMs) / 1_000).toFixed(1)} s\n`));
await once(process, "disconnect");
process.exit(); // its first process follows, and with it all others
