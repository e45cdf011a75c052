// `npm test`: installs what the tests need, runs all of them, says again what failed, and ends with a line that counts them.
// Arguments go to vitest: `npm test -- tests/crash.test.ts`.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { createInterface } from "node:readline";
import { stripVTControlCharacters } from "node:util";
import { findGo, goFolders, provision, starterImage, testCommands } from "@pitwall/quickstart";
import { messageChain } from "@pitwall/runtime";
import { z } from "zod";

const root = join(import.meta.dirname, "..");
const say = (text: string): void => void process.stderr.write(`${text}\n`);

interface Count {
  passed: number;
  failed: number;
  skipped: number;
}

const vitestReport = z.object({
  numPassedTests: z.number(),
  numFailedTests: z.number(),
  numPendingTests: z.number(),
  success: z.boolean(),
  testResults: z.array(
    z.object({
      name: z.string(),
      status: z.string(),
      message: z.string(),
      assertionResults: z.array(z.object({ fullName: z.string(), status: z.string(), failureMessages: z.array(z.string()).nullish() })),
    }),
  ),
});
/** Of a failure's own words, when they are said again. */
const messageLimit = 600;
const goEvent = z.object({
  Action: z.string(),
  Test: z.string().optional(),
  Output: z.string().optional(),
  Package: z.string().optional(),
});

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  say(`error: ${messageChain(error)}`);
  process.exitCode = 1;
}
process.exit();

async function main(filters: readonly string[]): Promise<number> {
  const { cacheDir } = await provision(say, testCommands);
  await starterImage(cacheDir, say, new AbortController().signal);
  const counts: Count[] = [];
  if (filters.length === 0) counts.push(await goTests(cacheDir));
  counts.push(await vitest(filters));
  const sum = (key: keyof Count): number => counts.reduce((total, count) => total + count[key], 0);
  const skipped = sum("skipped");
  process.stdout.write(`${sum("passed")} passed, ${sum("failed")} failed${skipped > 0 ? `, ${skipped} skipped` : ""}\n`);
  return sum("failed") === 0 && sum("passed") > 0 ? 0 : 1;
}

/** A suite that failed outside its tests counts as one failure. */
async function vitest(filters: readonly string[]): Promise<Count> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-report-"));
  try {
    const file = join(dir, "report.json");
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`];
    const child = spawn(process.execPath, [join(root, "node_modules/vitest/vitest.mjs"), "run", ...reporters, ...filters], {
      cwd: root,
      stdio: ["ignore", "inherit", "inherit"],
    });
    await new Promise((resolve, reject) => child.once("close", resolve).once("error", reject));
    const report = vitestReport.parse(JSON.parse(await readFile(file, "utf8")));
    for (const line of failuresIn(report)) process.stdout.write(`${line}\n`);
    const failed = report.success ? report.numFailedTests : Math.max(1, report.numFailedTests);
    return { passed: report.numPassedTests, failed, skipped: report.numPendingTests };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** What failed, where logs are cut to their ends. A file with no failed test may have failed itself. */
function failuresIn({ testResults }: z.infer<typeof vitestReport>): string[] {
  const said = (what: string, message: string): string => `failed: ${what}: ${stripVTControlCharacters(message).slice(0, messageLimit)}`;
  return testResults
    .filter(({ status }) => status === "failed")
    .flatMap(({ name, message, assertionResults }) => {
      const file = relative(root, name);
      const failed = assertionResults.filter(({ status }) => status === "failed");
      if (failed.length === 0) return [said(file, message)];
      return failed.map(({ fullName, failureMessages }) => said(`${file}: ${fullName}`, failureMessages?.[0] ?? "no words"));
    });
}

/** powerunit's own. Output is shown for what failed. */
async function goTests(cacheDir: string): Promise<Count> {
  const go = await findGo(cacheDir, say);
  say("running powerunit's tests");
  const env = { ...process.env, GOTOOLCHAIN: "local", CGO_ENABLED: "0", ...(await goFolders(cacheDir)) };
  const child = spawn(go, ["test", "-json", "./..."], { cwd: join(root, "guest/powerunit"), stdio: ["ignore", "pipe", "inherit"], env });
  const ended = new Promise<number | null>((resolve, reject) => child.once("close", resolve).once("error", reject));
  const count: Count = { passed: 0, failed: 0, skipped: 0 };
  const output = new Map<string, string>();
  for await (const line of createInterface({ input: child.stdout })) {
    const { Action, Test, Output, Package } = goEvent.parse(JSON.parse(line));
    const name = `${Package}/${Test}`;
    if (Action === "output") output.set(name, (output.get(name) ?? "") + (Output ?? ""));
    if (Test === undefined) continue;
    if (Action === "pass") count.passed++;
    if (Action === "skip") count.skipped++;
    if (Action === "fail") count.failed++;
    if (Action === "fail" || Action === "skip") say(output.get(name) ?? name);
  }
  if ((await ended) !== 0 && count.failed === 0) {
    for (const text of output.values()) if (text.includes("FAIL") || text.includes("error")) say(text);
    count.failed++;
  }
  return count;
}
