// powerunit's part of `npm run check`: go vet and its unit tests, those of the build that tests may break as well.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { environmentWithGo } from "./with-go.ts";

const cwd = join(dirname(import.meta.dirname), "guest", "powerunit");
try {
  const env = await environmentWithGo((text) => process.stderr.write(`${text}\n`));
  for (const args of [
    ["vet", "./..."],
    ["test", "-vet=off", "./..."],
    ["test", "-vet=off", "-tags=failpoints", "./internal/failpoint"],
  ]) {
    const { status, error } = spawnSync("go", args, { cwd, env, stdio: "inherit" });
    if (error) throw error;
    if (status !== 0) process.exitCode = 1;
  }
} catch (error) {
  process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
