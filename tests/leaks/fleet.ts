// More simulated nodes beside a stack: one process that plays several.
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { nodeArguments } from "@pitwall/runtime";
import type { Stack } from "@pitwall/quickstart";

const root = join(import.meta.dirname, "..", "..");

/** Resolves when they have links. Disposing it ends the process. */
export async function startSimulatedNodes(stack: Stack, count: number): Promise<AsyncDisposable & { readonly pid: number }> {
  const { join: text } = await stack.client().createJoinToken("node", "", count);
  const stateDir = join(stack.stateDir, "fleet");
  await mkdir(stateDir, { recursive: true });
  const log = openSync(join(stack.stateDir, "log", "fleet.log"), "a", 0o600);
  const child = spawn(process.execPath, [...nodeArguments("node"), join(root, "services", "node", "src", "main.ts")], {
    stdio: ["ignore", "pipe", log],
    detached: true, // a signal for all of a terminal's processes is not for this one: its VMs are to go first
    env: {
      PATH: process.env["PATH"],
      TMPDIR: process.env["TMPDIR"],
      PITWALL_STATE_DIR: stateDir,
      PITWALL_NAME: "sim",
      PITWALL_SIMULATE: "true",
      PITWALL_COUNT: String(count),
      PITWALL_JOIN: text,
    },
  });
  closeSync(log);
  const ended = new Promise((resolve) => child.once("exit", resolve));
  if (!child.stdout) throw new Error("a child without a pipe");
  const first = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  if (first.done) throw new Error("the simulated nodes did not start; log/fleet.log says why");
  child.stdout.resume();
  return {
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
