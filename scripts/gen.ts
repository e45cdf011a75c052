// `npm run gen`: makes all that is generated from proto/ anew.
//
//   --check      compares with what is committed, changes nothing, and fails when it differs (a step of `npm run check`)
//   --baseline   also takes today's protos as the contract that `npm run check` holds later ones to: once per release
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { command } from "../quickstart/src/provision/command.ts";
import { environmentWithGo } from "./with-go.ts";

const root = dirname(import.meta.dirname);
const baseline = "proto/baseline.binpb";
const templates = ["buf.gen.yaml", "clients/ts-sdk/buf.gen.yaml", "guest/powerunit/buf.gen.yaml"];
/** Folders and files that hold nothing but generated code. */
const outputs = ["gen/ts/google", "gen/ts/pitwall", "gen/descriptor.binpb", "clients/ts-sdk/src/gen", "guest/powerunit/internal/gen"];

const say = (text: string): boolean => process.stderr.write(`${text}\n`);

const { values: options } = parseArgs({ options: { check: { type: "boolean" }, baseline: { type: "boolean" } } });
const made = await mkdtemp(join(tmpdir(), "pitwall-gen-"));
try {
  await generate(made);
  const changes = await differences(made);
  if (options.check) report(changes);
  else await apply(changes);
  if (options.baseline) await buf(["build", "--exclude-source-info", "--output", baseline]);
} catch (error) {
  say(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
} finally {
  await rm(made, { recursive: true, force: true });
}

interface Change {
  readonly path: string;
  /** Undefined for a file that is no longer made. */
  readonly content: Buffer | undefined;
}

async function generate(into: string): Promise<void> {
  const env = await environmentWithGo(say);
  await mkdir(join(into, "gen"));
  await Promise.all([
    ...templates.map((template) => buf(["generate", "--template", template, "--output", into], env)),
    buf(["build", "--as-file-descriptor-set", "--exclude-source-info", "--output", join(into, "gen/descriptor.binpb")]),
  ]);
}

async function buf(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
  await command("buf", args, { cwd: root, env });
}

/** What the work tree would have to change to hold exactly what was made. */
async function differences(from: string): Promise<Change[]> {
  const changes: Change[] = [];
  for (const output of outputs) {
    const paths = new Set([...(await filesBelow(root, output)), ...(await filesBelow(from, output))]);
    for (const path of [...paths].toSorted()) {
      const [committed, content] = await Promise.all([root, from].map((folder) => readFile(join(folder, path)).catch(() => undefined)));
      if (content === undefined || !committed?.equals(content)) changes.push({ path, content });
    }
  }
  return changes;
}

/** Paths relative to `folder`: those below `output`, or `output` itself when it is a file. */
async function filesBelow(folder: string, output: string): Promise<string[]> {
  if (/\.\w+$/.test(output)) return [output];
  const found = await readdir(join(folder, output), { recursive: true, withFileTypes: true }).catch(() => []);
  return found.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
}

function report(changes: readonly Change[]): void {
  for (const { path, content } of changes) say(`${path} ${content ? "is not what the protos make" : "is no longer made"}`);
  if (changes.length === 0) return;
  say("run `npm run gen` and commit what it changes");
  process.exitCode = 1;
}

async function apply(changes: readonly Change[]): Promise<void> {
  for (const { path, content } of changes) {
    say(`${content ? "wrote" : "removed"} ${path}`);
    if (content) {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), content);
    } else await rm(join(root, path));
  }
  if (changes.length === 0) say("generated code is up to date");
}
