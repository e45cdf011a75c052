// Applies import-rules.ts to all our sources.
//
// dependency-cruiser finds little or nothing, and calls that fine, when its parser does not understand a file. So each import that a
// plain search finds must be among those that it found.
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { VariableDeclarator } from "@swc/core";
import { Visitor } from "@swc/core/Visitor.js";
import { cruise, type ICruiseResult, type IViolation } from "dependency-cruiser";
import { options, resolution, rules } from "./import-rules.ts";

const root = dirname(import.meta.dirname);
const folders = ["gen", "libs", "services", "clients", "quickstart", "scripts", "tests", "bench"];
const say = (text: string): boolean => process.stderr.write(`${text}\n`);

teachUsing();
const sources = (await Promise.all(folders.map(sourcesIn))).flat();
const { output } = await cruise(sources, { ...options, baseDir: root, ruleSet: { forbidden: [...rules] }, validate: true }, resolution);
if (typeof output === "string") throw new Error("the import rules gave no result");
const missed = await importsMissedBy(output);
for (const what of missed) say(what);
for (const violation of output.summary.violations) say(describe(violation));
say(`${output.summary.totalCruised} modules, ${output.summary.totalDependenciesCruised ?? 0} imports, ${rules.length} rules`);
process.exitCode = missed.length > 0 || output.summary.error > 0 ? 1 : 0;

async function sourcesIn(folder: string): Promise<string[]> {
  const found = await readdir(join(root, folder), { recursive: true, withFileTypes: true });
  return found
    .filter((entry) => entry.isFile() && /\.(ts|mjs)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .filter((path) => !/(^|\/)(node_modules|dist)\//.test(path));
}

async function importsMissedBy({ modules }: ICruiseResult): Promise<string[]> {
  const found = new Map(modules.map(({ source, dependencies }) => [source, new Set(dependencies.map(({ module }) => bare(module)))]));
  const missing = await Promise.all(
    sources.map(async (path) => {
      const text = await readFile(join(root, path), "utf8");
      const wanted = [...text.matchAll(/^(?:import|export)\s(?:[^"'`;]*\sfrom\s)?"([^"]+)"/gm)].map(([, name = ""]) => name);
      return wanted.filter((name) => !found.get(path)?.has(bare(name))).map((name) => `${path}: the import of ${name} was not looked at`);
    }),
  );
  return missing.flat();
}

function bare(name: string): string {
  return name.replace(/^node:/, "");
}

function describe({ from, to, rule, cycle }: IViolation): string {
  const way = cycle && cycle.length > 0 ? cycle.map(({ name }) => name).join(" → ") : to;
  return `${from} → ${way}: ${rule.name}. ${rules.find(({ name }) => name === rule.name)?.comment ?? ""}`;
}

/** swc's walk over a syntax tree, which dependency-cruiser uses, throws at `using`, which swc's parser knows. */
function teachUsing(): void {
  const walk = Visitor.prototype; // oxlint-disable-line typescript/no-deprecated -- as long as dependency-cruiser uses it
  const { visitStatement } = walk;
  walk.visitStatement = function visit(statement) {
    const { type, decls }: { type: string; decls?: VariableDeclarator[] } = statement;
    if (type !== "UsingDeclaration") return visitStatement.call(this, statement);
    this.visitVariableDeclarators(decls ?? []);
    return statement;
  };
}
