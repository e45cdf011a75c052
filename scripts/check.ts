// `npm run check`: everything that can be said about the sources without starting Pitwall. `npm run check -- types lint` says
// part of it; with `--force` also what passed before is run again.
//
// Each step is a script `check:STEP` of package.json, and what it reads stands in turbo.json: turbo runs two at a time, or as many as
// there are CPUs, and skips what has passed already on the same files.
import { spawn } from "node:child_process";
import { readFile, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { parseArgs } from "node:util";
import { z } from "zod";
import { messageChain, systemClock } from "@pitwall/runtime";
import { environmentWithGo, goVersion } from "./with-go.ts";

const root = dirname(import.meta.dirname);
/** The slowest first. */
const steps = ["unit", "lint", "types", "generated", "unused", "go", "imports", "format", "protos"] as const;
type Step = (typeof steps)[number];

const summary = z.object({
  tasks: z.array(
    z.object({
      task: z.string(),
      logFile: z.string(),
      cache: z.object({ status: z.string(), timeSaved: z.number() }),
      execution: z.object({ startTime: z.number(), endTime: z.number(), exitCode: z.number() }).optional(),
    }),
  ),
});
type Task = z.output<typeof summary>["tasks"][number];

const say = (words: string): boolean => process.stderr.write(`${words}\n`);

try {
  process.exitCode = await check(process.argv.slice(2));
} catch (error) {
  say(`error: ${messageChain(error)}`);
  process.exitCode = 2;
}

async function check(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { force: { type: "boolean" } } });
  const unknown = positionals.filter((name) => !isStep(name));
  if (unknown.length > 0) throw new Error(`there is no check ${unknown.join(", ")}; there are ${steps.join(", ")}`);
  const wanted = steps.filter((step) => positionals.length === 0 || positionals.includes(step));
  say(`checking ${wanted.join(", ")}`);
  const begun = systemClock.monotonicMs();
  const tasks = await runTurbo(wanted, values.force ?? false);
  const results = wanted.map((step) => ({ step, task: tasks.find(({ task }) => task === taskOf(step)) }));
  const failed = results.filter(({ task }) => task?.execution?.exitCode !== 0);
  for (const { step, task } of failed) say(`\n── ${step} ${"─".repeat(60)}\n${await outputOf(task)}`);
  say("");
  for (const { step, task } of results) say(`  ${step.padEnd(10)} ${describe(task)}`);
  const took = seconds(systemClock.monotonicMs() - begun);
  say(failed.length === 0 ? `\nall is well (${took})` : `\nfailed: ${failed.map(({ step }) => step).join(", ")} (${took})`);
  return failed.length === 0 ? 0 : 1;
}

async function runTurbo(wanted: readonly Step[], force: boolean): Promise<readonly Task[]> {
  const args = [
    "run",
    ...wanted.map(taskOf),
    "--continue=always",
    "--output-logs=none",
    "--summarize",
    `--concurrency=${availableParallelism()}`,
  ];
  const child = spawn("turbo", force ? [...args, "--force"] : args, {
    cwd: root,
    env: { ...(await environment()), TURBO_TELEMETRY_DISABLED: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const failure = new Promise<never>((_, reject) => child.once("error", reject));
  const [said, complaints] = await Promise.race([Promise.all([text(child.stdout), text(child.stderr)]), failure]);
  const path = /^\s*Summary:\s+(.+)$/m.exec(said)?.[1];
  if (path === undefined) throw new Error(`turbo did not run: ${complaints}`);
  const { tasks } = summary.parse(JSON.parse(await readFile(path, "utf8")));
  await rm(path, { force: true });
  return tasks;
}

/** What a step wrote, without the lines in which npm says what it runs. */
async function outputOf(task: Task | undefined): Promise<string> {
  const log = task && (await readFile(join(root, task.logFile), "utf8").catch(() => undefined));
  return log?.replace(/^(?:\s*> .*\n)*\n*/, "").trimEnd() ?? "it did not run";
}

/** Without Go the checks that need it fail, each with this sentence, and the others run. */
async function environment(): Promise<NodeJS.ProcessEnv> {
  try {
    const env = await environmentWithGo(say);
    return { ...env, PITWALL_GO_VERSION: await goVersion(env) };
  } catch (error) {
    say(`error: ${error instanceof Error ? error.message : String(error)}`);
    return process.env;
  }
}

function isStep(name: string): name is Step {
  return steps.some((step) => step === name);
}

function taskOf(step: Step): string {
  return `check:${step}`;
}

function describe(task: Task | undefined): string {
  if (!task?.execution) return "FAILED   did not run";
  const { startTime, endTime, exitCode } = task.execution;
  if (exitCode !== 0) return `FAILED   ${seconds(endTime - startTime)}`;
  return task.cache.status === "HIT"
    ? `passed   before, on the same files (${seconds(task.cache.timeSaved)} then)`
    : `passed   ${seconds(endTime - startTime)}`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
