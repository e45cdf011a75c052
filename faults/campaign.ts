// A campaign of the layer `sim`: schedules by seed, spread over threads, each of which has a PostgreSQL server of its own.
import { readFile } from "node:fs/promises";
import { steps } from "./schedule/schedule.ts";
import { openInstallation } from "./sim/installation.ts";
import { ScheduleThread, type Verdict } from "./thread.ts";

export interface CampaignOptions {
  readonly schedules: number;
  /** The number of the first one. Default: 0, and ahead of it those that once failed. */
  readonly from?: number;
  readonly seed: string;
  readonly workers: number;
  /** Where commands are found. */
  readonly path: string;
  /** Hears of each violation as it is found, and now and then of how far it is. */
  readonly say: (line: string) => void;
  /** Ends the campaign with what was done until then. */
  readonly signal?: AbortSignal;
  /** In real time, for one schedule of the layer sim. Default: 120 s. */
  readonly limitMs?: number;
}

export interface CampaignResult {
  readonly schedules: number;
  readonly valid: number;
  readonly violations: readonly { readonly seed: string; readonly invariant: string; readonly message: string }[];
  readonly seed: string;
  /** Layer sim: how often something happened at each failpoint of it, where something waited. */
  readonly struck?: Readonly<Record<string, number>>;
}

const maxTold = 3;
/** Schedules, from one line about how far it is to the next. */
const toldEvery = 500;

/** The seeds of a campaign; those that once failed go first, unless it goes on with an earlier one. */
export async function runCampaign({ schedules, seed, from = 0, ...options }: CampaignOptions): Promise<CampaignResult> {
  const drawn = Array.from({ length: schedules }, (_, index) => `${seed}/${from + index}`);
  return runSeeds([...(from === 0 ? await regressions() : []), ...drawn], seed, options);
}

export async function runSeeds(
  seeds: readonly string[],
  seed: string,
  { workers, path, say, signal, limitMs }: Omit<CampaignOptions, "schedules" | "from" | "seed">,
): Promise<CampaignResult> {
  const waiting = [...seeds];
  const answers: Verdict[] = [];
  await Promise.all(
    Array.from({ length: Math.min(workers, seeds.length) }, async () => {
      // A server each: what one leaves open, events wait for in all databases of its server.
      await using installation = await openInstallation(path);
      await using thread = new ScheduleThread(installation, limitMs);
      try {
        for (let next = waiting.shift(); next !== undefined && signal?.aborted !== true; next = waiting.shift()) {
          const verdict = await thread.run(next, signal);
          answers.push(verdict);
          if (answers.length % toldEvery === 0) say(`${answers.length} of ${seeds.length} schedules, the last one ${next}`);
          const broken = [...new Set(verdict.violations.map(({ invariant }) => invariant))];
          // What did not end would not do so when it is smaller, either.
          if (broken.length > 0) say(told(verdict, broken.includes("run") ? "" : await thread.shrink(next, broken, signal)));
        }
      } catch (error) {
        if (signal?.aborted !== true) throw error;
      }
    }),
  );
  return {
    schedules: answers.length,
    valid: answers.filter(({ isValid }) => isValid).length,
    violations: answers.flatMap((answer) => answer.violations.map((violation) => ({ seed: answer.seed, ...violation }))),
    seed,
    struck: Object.fromEntries(
      steps.map((step) => [step, answers.reduce((sum, { struck }) => sum + struck.filter((at) => at === step).length, 0)]),
    ),
  };
}

function told({ seed, violations }: Verdict, shrunk: string): string {
  const what = violations.slice(0, maxTold).map(({ invariant, message }) => `${invariant} ${message}`);
  const more = violations.length > maxTold ? ` and ${violations.length - maxTold} more` : "";
  const smallest = shrunk === "" ? "" : ` [${shrunk}]`;
  return `VIOLATION seed ${seed}: ${what.join(" | ")}${more}${smallest} replay: npm run faults -- --replay ${seed}`;
}

/** One seed a line; what stands behind # says what it found. */
async function regressions(): Promise<string[]> {
  const lines = (await readFile(new URL("regressions.txt", import.meta.url), "utf8")).split("\n");
  return lines.map((line) => line.replace(/#.*/, "").trim()).filter((line) => line !== "");
}
