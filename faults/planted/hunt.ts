// Plants one bug after the other and looks whether it is found: by schedules of the layer sim until one shows it, or by the test that
// guards against it, which must fail with the bug and pass without.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { plantedBugs, type PlantedBug } from "@pitwall/runtime";
import { openInstallation, type Installation } from "../sim/installation.ts";
import { ScheduleThread } from "../thread.ts";
import { hunters, type Guard, type Hunted } from "./bugs.ts";

export interface HuntOptions {
  readonly bugs: readonly PlantedBug[];
  /** At most so many for each bug. */
  readonly schedules: number;
  readonly seed: string;
  readonly workers: number;
  /** Where commands are found. */
  readonly path: string;
  readonly say: (line: string) => void;
}

/** What became of one bug. */
export interface Hunt {
  readonly number: number;
  readonly bug: PlantedBug;
  readonly found: boolean;
  /** Schedules that were run, the one that found it among them. 0: a test was asked. */
  readonly schedules: number;
  /** Invariant, or test. */
  readonly by: string;
}

export interface HuntResult {
  readonly planted: number;
  readonly found: number;
  readonly bugs: readonly Hunt[];
  readonly seed: string;
}

const root = dirname(dirname(import.meta.dirname));

export async function hunt(options: HuntOptions): Promise<HuntResult> {
  const bugs: Hunt[] = [];
  await using parts = new AsyncDisposableStack();
  const installations: Installation[] = [];
  for (const bug of options.bugs) {
    const hunter = hunters[bug];
    const number = plantedBugs.indexOf(bug) + 1;
    while (hunter.by === "sim" && installations.length < options.workers)
      installations.push(parts.use(await openInstallation(options.path)));
    const since = performance.now();
    const result = hunter.by === "sim" ? await bySchedules(bug, hunter, installations, options) : await byTest(bug, hunter);
    bugs.push({ number, bug, ...result });
    const seconds = ((performance.now() - since) / 1_000).toFixed(1);
    const how = result.schedules > 0 ? ` after ${result.schedules} schedules` : "";
    options.say(`${result.found ? "found" : "NOT FOUND"} ${number} ${bug}${how}: ${result.by} (${seconds} s)`);
  }
  return { planted: bugs.length, found: bugs.filter(({ found }) => found).length, bugs, seed: options.seed };
}

async function bySchedules(
  bug: PlantedBug,
  { shows }: Hunted,
  installations: readonly Installation[],
  { schedules, seed }: HuntOptions,
): Promise<Omit<Hunt, "number" | "bug">> {
  let next = 0;
  let run = 0;
  let by: string | undefined;
  await Promise.all(
    installations.map(async (server) => {
      await using wrong = new ScheduleThread({ ...server, planted: bug });
      while (by === undefined && next < schedules) {
        const at = `${seed}/${next++}`;
        const shown = (await wrong.run(at)).violations.find(({ invariant }) => shows.includes(invariant));
        run++;
        if (!shown) continue;
        // What shows without the bug as well is none of its doing.
        await using right = new ScheduleThread(server);
        if ((await right.run(at)).violations.length === 0) by ??= `${shown.invariant} at ${at}: ${shown.message}`;
      }
    }),
  );
  return { found: by !== undefined, schedules: run, by: by ?? "nothing" };
}

/** Whether the test fails with the bug, and for no other reason. */
async function byTest(bug: PlantedBug, hunter: Hunted | Guard): Promise<Omit<Hunt, "number" | "bug">> {
  if (!("file" in hunter)) throw new Error(`${bug} has no test`);
  const by = `${hunter.file}: ${hunter.test}`;
  if (!(await passes(hunter, {}))) return { found: false, schedules: 0, by: `${by}: fails without the bug` };
  const isBlind = await passes(hunter, { PITWALL_PLANTED: bug, PITWALL_ALLOW_FAILPOINTS: "1" });
  return { found: !isBlind, schedules: 0, by };
}

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
}

/** Throws when the test is not there. */
async function passes({ project, file, test }: Guard, env: Readonly<Record<string, string>>): Promise<boolean> {
  const name = test.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  await using work = await mkdtempDisposable(join(tmpdir(), "pitwall-planted-"));
  const report = join(work.path, "report.json");
  const args = ["run", "--project", project, "--reporter=json", `--outputFile=${report}`, file, "-t", name];
  const child = spawn("vitest", args, { cwd: root, stdio: "ignore", env: { ...process.env, ...env } });
  await once(child, "exit");
  const { numPassedTests, numFailedTests } = JSON.parse(await readFile(report, "utf8")) as Report; // vitest's own reporter wrote it
  if (numPassedTests + numFailedTests === 0) throw new Error(`${file} has no test ${JSON.stringify(test)}`);
  return numFailedTests === 0;
}
