// `npm run faults`: breaks the system on purpose, by schedules that a seed draws, and judges what was seen. Ends with one line of JSON.
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { messageChain, plantedBugs } from "@pitwall/runtime";
import { runCampaign, runSeeds, type CampaignResult } from "./campaign.ts";
import { hunt } from "./planted/hunt.ts";
import { runDirected, runProcessCampaign, runProcessTasks } from "./process/campaign.ts";
import { directedSeedsOf } from "./process/directed.ts";

const usage =
  "usage: npm run faults -- [--schedules N] [--from N] [--seed S] [--layer sim|process] [--replay SEED] [--workers N] [--logs DIR] [--pace N]\n       npm run faults -- --layer process --directed[=NAME,…] [--workers N] [--logs DIR] [--pace N]\n       npm run faults -- --planted NUMBER|all [--schedules N] [--seed S] [--workers N]";
/** Of all schedules; with fewer, too much was judged that nobody had used. */
const leastValid = 0.95;
const say = (text: string): void => void process.stderr.write(`${text}\n`);

try {
  const { values } = parseArgs({
    args: process.argv.slice(2).map((arg) => (arg === "--directed" ? "--directed=all" : arg)),
    options: {
      directed: { type: "string" },
      schedules: { type: "string" },
      from: { type: "string", default: "0" },
      planted: { type: "string" },
      seed: { type: "string", default: "1" },
      layer: { type: "string", default: "sim" },
      workers: { type: "string", default: String(availableParallelism()) },
      replay: { type: "string" },
      logs: { type: "string", default: "" },
      pace: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`${usage}\n\ndocs/faults.md says what each of them does.\n`);
    process.exit(0);
  }
  const { seed, layer, replay, planted, logs, directed } = values;
  const [schedules, workers] = [Number(values.schedules ?? (planted === undefined ? 100 : 1_000)), Number(values.workers)];
  const from = Number(values.from);
  if (layer !== "sim" && layer !== "process") throw new Error(`--layer: there is no layer ${layer}, only sim and process\n${usage}`);
  if (!Number.isInteger(schedules) || schedules < 1)
    throw new Error(`--schedules: must be a whole number from 1, got ${values.schedules}\n${usage}`);
  if (!Number.isInteger(from) || from < 0) throw new Error(`--from: must be a whole number from 0, got ${values.from}\n${usage}`);
  if (!Number.isInteger(workers) || workers < 1)
    throw new Error(`--workers: must be a whole number from 1, got ${values.workers}\n${usage}`);
  const pace = values.pace === undefined ? undefined : Number(values.pace);
  if (pace !== undefined && !(Number.isInteger(pace) && pace >= 1 && pace <= 10))
    throw new Error(`--pace: must be a whole number from 1 to 10, got ${values.pace}\n${usage}`);
  const stop = new AbortController();
  const options = { workers, path: process.env["PATH"] ?? "", say, signal: stop.signal, ...(pace !== undefined && { pace }) };
  if (planted !== undefined) {
    const bugs = planted === "all" ? plantedBugs : plantedBugs.filter((_, index) => String(index + 1) === planted);
    if (bugs.length === 0) throw new Error(`--planted: must be all, or a number up to ${plantedBugs.length}, got ${planted}\n${usage}`);
    const result = await hunt({ ...options, bugs, schedules, seed });
    process.stdout.write(`${JSON.stringify(result)}\n`);
    process.exit(result.found === result.planted ? 0 : 1);
  }
  for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => stop.abort());
  if (directed !== undefined) {
    if (layer !== "process") throw new Error(`--directed: real processes alone are directed, with --layer process\n${usage}`);
    const result = await runDirected(directedSeedsOf(directed.split(",")), { ...options, logs });
    process.stdout.write(`${JSON.stringify(result)}\n`);
    process.exit(stop.signal.aborted ? 130 : result.violations.length > 0 || result.hit < result.runs ? 1 : 0);
  }
  const startedMs = performance.now();
  const campaign = (): Promise<CampaignResult> =>
    replay === undefined ? runCampaign({ schedules, from, seed, ...options }) : runSeeds([replay], replay, options);
  const ofProcesses = (): Promise<CampaignResult> =>
    replay === undefined
      ? runProcessCampaign({ schedules, from, seed, logs, ...options })
      : runProcessTasks([replay], replay, { logs, ...options });
  const result = await (layer === "sim" ? campaign() : ofProcesses());
  const seconds = (performance.now() - startedMs) / 1_000;
  say(
    `${result.schedules} schedules in ${seconds.toFixed(1)} s, ${((seconds * 1_000) / Math.max(1, result.schedules)).toFixed(0)} ms each`,
  );
  const [rarest] = Object.entries(result.struck ?? {}).toSorted(([, a], [, b]) => a - b);
  if (rarest && replay === undefined) say(`of all failpoints something happened the least often at ${rarest[0]}: ${rarest[1]} times`);
  process.stdout.write(`${JSON.stringify(result)}\n`);
  const isProof = result.valid >= result.schedules * leastValid;
  if (!isProof) say(`only ${result.valid} of ${result.schedules} schedules are valid (docs/faults.md): that shows nothing`);
  process.exitCode = stop.signal.aborted ? 130 : result.violations.length > 0 || !isProof ? 1 : 0;
} catch (error) {
  say(`error: ${messageChain(error)}`);
  process.exitCode = 1;
}
process.exit();
