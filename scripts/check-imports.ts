// Applies import-rules.ts to all our sources. Without a parser for TypeScript the tool finds nothing and calls that fine, so
// a folder in which nothing was found is a failure.
import { readdir } from "node:fs/promises";
import { dirname } from "node:path";
import { cruise, type ICruiseResult, type IViolation } from "dependency-cruiser";
import { options, resolution, rules } from "./import-rules.ts";

const root = dirname(import.meta.dirname);
const nested = ["libs", "services", "clients"];
const folders = ["gen/ts", "quickstart", "scripts", "tests", "bench", ...(await Promise.all(nested.map(foldersIn))).flat()];
const say = (text: string): boolean => process.stderr.write(`${text}\n`);

const { output } = await cruise(folders, { ...options, baseDir: root, ruleSet: { forbidden: [...rules] }, validate: true }, resolution);
if (typeof output === "string") throw new Error("the import rules gave no result");
const empty = folders.filter((folder) => !hasModules(output, folder));
for (const folder of empty) say(`${folder}: no module was found, so no rule was applied`);
for (const violation of output.summary.violations) say(describe(violation));
say(`${output.summary.totalCruised} modules, ${output.summary.totalDependenciesCruised ?? 0} imports, ${rules.length} rules`);
process.exitCode = empty.length > 0 || output.summary.error > 0 ? 1 : 0;

async function foldersIn(folder: string): Promise<string[]> {
  const found = await readdir(`${root}/${folder}`, { withFileTypes: true });
  return found.filter((entry) => entry.isDirectory()).map(({ name }) => `${folder}/${name}`);
}

function hasModules({ modules }: ICruiseResult, folder: string): boolean {
  return modules.some(({ source, dependencies }) => source.startsWith(`${folder}/`) && source.endsWith(".ts") && dependencies.length > 0);
}

function describe({ from, to, rule, cycle }: IViolation): string {
  const way = cycle && cycle.length > 0 ? cycle.map(({ name }) => name).join(" → ") : to;
  return `${from} → ${way}: ${rule.name}. ${rules.find(({ name }) => name === rule.name)?.comment ?? ""}`;
}
