// A campaign of the layer of processes: schedules by seed, in a few worlds side by side. A world that is not clean afterwards is replaced.
import { once } from "node:events";
import { availableParallelism, loadavg } from "node:os";
import type { ChildProcess } from "node:child_process";
import { join } from "node:path";
import { systemClock } from "@pitwall/runtime";
import type { CampaignOptions, CampaignResult } from "../campaign.ts";
import { startIsolated, whyNotIsolated } from "./isolation.ts";
import { makeMakings } from "./makings.ts";
import type { ProcessAnswer, ProcessTask } from "./worker.ts";

const maxTold = 3;
const answerLimitMs = 240_000;

/** Of schedules in one world. */
const perWorld = 10;
/** How many processes want each CPU, and how many times as long as on a machine of its own all that hangs on leases then takes. */
const paces = [
  { load: 10, pace: 3 },
  { load: 4, pace: 2 },
];

export interface ProcessCampaignOptions extends CampaignOptions {
  /** A folder that takes the services' logs of schedules that failed; empty: they go. */
  readonly logs: string;
  /** All that hangs on leases takes so many times as long; default: as the machine's load is. */
  readonly pace?: number;
}

/** Why nothing can be run here; undefined: it can. */
export { whyNotIsolated };

export async function runProcessCampaign({ schedules, seed, from = 0, ...options }: ProcessCampaignOptions): Promise<CampaignResult> {
  return runProcessTasks(
    Array.from({ length: schedules }, (_, index) => `${seed}/${from + index}`),
    seed,
    options,
  );
}

export interface DirectedResult {
  readonly runs: number;
  /** In which the place was struck; the others prove nothing. */
  readonly hit: number;
  readonly violations: CampaignResult["violations"];
}

/** `seeds` are those of directed runs. */
export async function runDirected(
  seeds: readonly string[],
  options: Omit<ProcessCampaignOptions, "schedules" | "from" | "seed">,
): Promise<DirectedResult> {
  const { schedules, valid, violations } = await runProcessTasks(seeds, "", options);
  return { runs: schedules, hit: valid, violations };
}

/** Seeds, or schedules that were made by hand. */
export async function runProcessTasks(
  tasks: readonly ProcessTask[],
  seed: string,
  { workers, path, say, logs, signal, pace = paceHere() }: Omit<ProcessCampaignOptions, "schedules" | "from" | "seed">,
): Promise<CampaignResult> {
  const whyNot = await whyNotIsolated();
  if (whyNot !== undefined) throw new Error(`the layer process cannot run here: ${whyNot}`);
  if (pace > 1) say(`leases last ${pace} times as long: this machine is busy, or --pace says so`);
  await using makings = await makeMakings(path, pace, say);
  const isOver = (): boolean => signal?.aborted === true;
  const waiting = [...tasks];
  const answers: ProcessAnswer[] = [];
  const begunMs = systemClock.monotonicMs();
  await Promise.all(
    Array.from({ length: Math.min(workers, tasks.length) }, async () => {
      let world: World | undefined;
      try {
        for (let next = waiting.shift(); next !== undefined && !isOver(); next = waiting.shift()) {
          world ??= await World.start([JSON.stringify(makings), logs]);
          const sinceMs = systemClock.monotonicMs();
          const answer = await world.run(next, pace, signal);
          if (isOver()) return; // the answer is that of an end amid the run
          answers.push(answer);
          if (answer.violations.length > 0) say(told(answer));
          else if (!answer.isValid) say(`INVALID seed ${answer.seed}: what it is there for did not happen`);
          else say(`green: ${answer.seed} in ${((systemClock.monotonicMs() - sinceMs) / 1_000).toFixed(1)} s`);
          if (answer.isClean && answer.violations.length === 0 && ++world.runs < perWorld) continue;
          await world[Symbol.asyncDispose]();
          world = undefined;
        }
      } finally {
        await world?.[Symbol.asyncDispose]();
      }
    }),
  );
  const seconds = (systemClock.monotonicMs() - begunMs) / 1_000;
  say(`${counted(answers)}; ${answers.length} runs in ${seconds.toFixed(0)} s`);
  return {
    schedules: answers.length,
    valid: answers.filter(({ isValid }) => isValid).length,
    violations: answers.flatMap((answer) => answer.violations.map((violation) => ({ seed: answer.seed, ...violation }))),
    seed,
  };
}

/** Leases that are lost because nobody gets to run show nothing of the system. */
function paceHere(): number {
  const load = (loadavg()[0] ?? 0) / availableParallelism();
  return paces.find((one) => load > one.load)?.pace ?? 1;
}

/** A worker with all that it started. */
class World implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #gone: Promise<unknown>;
  runs = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#gone = once(child, "close");
  }

  static async start(args: readonly string[]): Promise<World> {
    return new World(await startIsolated(join(import.meta.dirname, "worker.ts"), args));
  }

  async run(task: ProcessTask, pace: number, signal?: AbortSignal): Promise<ProcessAnswer> {
    const seed = typeof task === "string" ? task : task.seed;
    this.#child.send(task);
    const limitMs = answerLimitMs * (pace + 1); // the calm may be put off
    const limit = AbortSignal.any([AbortSignal.timeout(limitMs), ...(signal ? [signal] : [])]);
    const [answer] = (await Promise.race([
      once(this.#child, "message", { signal: limit }),
      this.#gone.then(() => [broken(seed, "the world ended")]),
    ]).catch(() => [broken(seed, `it took longer than ${limitMs} ms`)])) as [ProcessAnswer]; // worker.ts sends nothing else
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#gone;
  }
}

function broken(seed: string, message: string): ProcessAnswer {
  return { seed, isValid: true, isClean: false, violations: [{ invariant: "run", message }], told: "", counts: undefined };
}

/** A campaign in which little happened proves little. */
function counted(answers: readonly ProcessAnswer[]): string {
  const sum = (key: keyof NonNullable<ProcessAnswer["counts"]>): number =>
    answers.reduce((total, { counts }) => total + (counts?.[key] ?? 0), 0);
  return `seen: ${sum("vmms")} VMMs, ${sum("answered")} answered calls, ${sum("reached")} ways into VMs, ${sum("refused")} intruders`;
}

function told({ seed, violations, told: faults }: ProcessAnswer): string {
  const what = violations.slice(0, maxTold).map(({ invariant, message }) => `${invariant} ${message}`);
  const more = violations.length > maxTold ? ` and ${violations.length - maxTold} more` : "";
  return `VIOLATION seed ${seed}: ${what.join(" | ")}${more} [${faults}] replay: npm run faults -- --layer process --replay ${seed}`;
}
