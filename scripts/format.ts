// `npm run format`: TypeScript, JSON and YAML by oxfmt, protos by buf, Go by gofmt. `--check` changes nothing and fails when it would.
import { spawnSync } from "node:child_process";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { environmentWithGo } from "./with-go.ts";

const { values: options } = parseArgs({ options: { check: { type: "boolean" } } });
const check = options.check ?? false;
const say = (text: string): boolean => process.stderr.write(`${text}\n`);

let isFine = true;
try {
  run("oxfmt", [check ? "--check" : "--write", "."]);
  run("buf", ["format", ...(check ? ["--diff", "--exit-code"] : ["--write"])]);
  const unformatted = run("gofmt", [check ? "-l" : "-w", "guest/powerunit"], await environmentWithGo(say));
  if (check && unformatted !== "") isFine = false; // gofmt lists them and exits 0
  if (check && !isFine) say("run `npm run format`");
} catch (error) {
  isFine = false;
  say(`error: ${error instanceof Error ? error.message : String(error)}`);
}
process.exitCode = isFine ? 0 : 1;

/** What the program wrote on stdout, which is passed on too. */
function run(name: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): string {
  const { status, stdout, error } = spawnSync(name, args, {
    cwd: dirname(import.meta.dirname),
    env,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (error) throw error;
  process.stdout.write(stdout);
  isFine &&= status === 0;
  return stdout;
}
