// `npm test`: installs what the tests need, runs all of them, what failed once more, and ends with what failed and a line that counts.
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
type Report = z.output<typeof vitestReport>;
type TestFile = Report["testResults"][number];
/** Files that are run again; more are no accident. */
const mostAgain = 3;
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

/**
 * All files, or those that the filters name. Of a whole run the files that failed, if they are few, are run once more, each alone: what a busy
 * machine's time limits did to them is told from what is broken. That they failed at first is said all the same.
 */
async function vitest(filters: readonly string[]): Promise<Count> {
  const first = await runVitest(filters);
  const failed = first.testResults.filter(({ status }) => status === "failed");
  const again = filters.length === 0 && failed.length > 0 && failed.length <= mostAgain;
  if (again) say(`${failed.length} of ${first.testResults.length} files failed: they are run once more, with nothing beside them`);
  const second = again
    ? await runVitest(
        failed.map(({ name }) => relative(root, name)),
        ["--no-file-parallelism"],
      )
    : undefined;
  const left = new Set((second ?? first).testResults.flatMap((file) => failuresIn(file).map(({ what }) => what)));
  for (const { what, message } of failed.flatMap(failuresIn))
    if (!left.has(what)) process.stdout.write(`failed at first, and passed when its file was run again, alone: ${what}: ${message}\n`);
  const results = [...first.testResults.filter((file) => !second || file.status !== "failed"), ...(second?.testResults ?? [])];
  for (const { what, message } of results.flatMap(failuresIn)) process.stdout.write(`failed: ${what}: ${message}\n`);
  const count = countOf(results);
  // What belongs to no file, as an error that nobody caught.
  return first.success || second?.success || count.failed > 0 ? count : { ...count, failed: 1 };
}

async function runVitest(filters: readonly string[], options: readonly string[] = []): Promise<Report> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-report-"));
  try {
    const file = join(dir, "report.json");
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`];
    const child = spawn(process.execPath, [join(root, "node_modules/vitest/vitest.mjs"), "run", ...reporters, ...options, ...filters], {
      cwd: root,
      stdio: ["ignore", "inherit", "inherit"],
    });
    await new Promise((resolve, reject) => child.once("close", resolve).once("error", reject));
    return vitestReport.parse(JSON.parse(await readFile(file, "utf8")));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** A file that failed outside its tests counts as one failure. */
function countOf(files: readonly TestFile[]): Count {
  const all = files.flatMap(({ assertionResults }) => assertionResults);
  const of = (...wanted: readonly string[]): number => all.filter(({ status }) => wanted.includes(status)).length;
  const broken = files.filter((file) => failuresIn(file).some(({ what }) => what === relative(root, file.name))).length;
  return { passed: of("passed"), failed: of("failed") + broken, skipped: of("skipped", "pending", "todo", "disabled") };
}

/** What failed, where logs are cut to their ends. A file with no failed test may have failed itself. */
function failuresIn({ name, status, message, assertionResults }: TestFile): { what: string; message: string }[] {
  if (status !== "failed") return [];
  const said = (what: string, text: string): { what: string; message: string } => ({
    what,
    message: stripVTControlCharacters(text).slice(0, messageLimit),
  });
  const file = relative(root, name);
  const failed = assertionResults.filter((result) => result.status === "failed");
  if (failed.length === 0) return [said(file, message)];
  return failed.map(({ fullName, failureMessages }) => said(`${file}: ${fullName}`, failureMessages?.[0] ?? "no words"));
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
