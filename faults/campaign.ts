// A campaign of the layer `sim`: schedules by seed, spread over worker threads that share one PostgreSQL server.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import type { PlantedBug } from "@pitwall/runtime";
import type { Violation } from "./observer/history.ts";
import { openInstallation } from "./sim/installation.ts";

export interface WorkerData {
  readonly databaseUrl: string;
  readonly image: string;
  /** A bug to plant; what fails is not made smaller then. */
  readonly planted?: PlantedBug;
}

export interface WorkerAnswer {
  readonly seed: string;
  readonly isValid: boolean;
  readonly violations: readonly Violation[];
  /** The smallest schedule that was found to fail too. */
  readonly shrunk: string;
}

export interface CampaignOptions {
  readonly schedules: number;
  readonly seed: string;
  readonly workers: number;
  /** Where commands are found. */
  readonly path: string;
  /** Hears of each violation as it is found. */
  readonly say: (line: string) => void;
  /** Ends the campaign with what was done until then. */
  readonly signal?: AbortSignal;
}

export interface CampaignResult {
  readonly schedules: number;
  readonly valid: number;
  readonly violations: readonly { readonly seed: string; readonly invariant: string; readonly message: string }[];
  readonly seed: string;
}

const maxTold = 3;

/** The seeds of a campaign; those that once failed go first, always. */
export async function runCampaign({ schedules, seed, ...options }: CampaignOptions): Promise<CampaignResult> {
  const drawn = Array.from({ length: schedules }, (_, index) => `${seed}/${index}`);
  return runSeeds([...(await regressions()), ...drawn], seed, options);
}

export async function runSeeds(
  seeds: readonly string[],
  seed: string,
  { workers, path, say, signal }: Omit<CampaignOptions, "schedules" | "seed">,
): Promise<CampaignResult> {
  await using installation = await openInstallation(path);
  const { databaseUrl, image } = installation;
  const waiting = [...seeds];
  const answers: WorkerAnswer[] = [];
  await Promise.all(
    Array.from({ length: Math.min(workers, seeds.length) }, async () => {
      const worker = new Worker(new URL("worker.ts", import.meta.url), { workerData: { databaseUrl, image } satisfies WorkerData });
      try {
        for (let next = waiting.shift(); next !== undefined && signal?.aborted !== true; next = waiting.shift()) {
          worker.postMessage(next);
          const [answer] = (await once(worker, "message", { signal })) as [WorkerAnswer]; // worker.ts sends nothing else
          answers.push(answer);
          if (answer.violations.length > 0) say(told(answer));
        }
      } catch (error) {
        if (signal?.aborted !== true) throw error;
      } finally {
        await worker.terminate();
      }
    }),
  );
  return {
    schedules: answers.length,
    valid: answers.filter(({ isValid }) => isValid).length,
    violations: answers.flatMap((answer) => answer.violations.map((violation) => ({ seed: answer.seed, ...violation }))),
    seed,
  };
}

function told({ seed, violations, shrunk }: WorkerAnswer): string {
  const what = violations.slice(0, maxTold).map(({ invariant, message }) => `${invariant} ${message}`);
  const more = violations.length > maxTold ? ` and ${violations.length - maxTold} more` : "";
  return `VIOLATION seed ${seed}: ${what.join(" | ")}${more} [${shrunk}] replay: npm run faults -- --replay ${seed}`;
}

/** One seed a line; what stands behind # says what it found. */
async function regressions(): Promise<string[]> {
  const lines = (await readFile(new URL("regressions.txt", import.meta.url), "utf8")).split("\n");
  return lines.map((line) => line.replace(/#.*/, "").trim()).filter((line) => line !== "");
}
