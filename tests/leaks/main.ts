// `npm run leaks`: makes and deletes VMs and tells what is left of them. Ends with one line of JSON; exit code 1 when anything is.
//
// SIGINT and SIGTERM end the making of VMs, not the look at what is left of them; a second one, later, ends all.
//
// As root it looks from a network and mount namespace of its own, so that what others do on this host is not taken for a leak.
import { spawn } from "node:child_process";
import { parseArgs } from "node:util";
import { provision } from "@pitwall/quickstart";
import { messageChain } from "@pitwall/runtime";
import { findLeaks, type LeaksOptions } from "./leaks.ts";

const usage = "usage: npm run leaks -- [--vms N] [--driver sim|sim-process|qemu] [--concurrency N]";
const drivers: Readonly<Record<string, { readonly driver: LeaksOptions["driver"]; readonly concurrency: string }>> = {
  sim: { driver: "sim", concurrency: "32" },
  "sim-process": { driver: "sim-process", concurrency: "8" },
  qemu: { driver: "qemu", concurrency: "3" },
};
const interrupted = 130;
const sameSignalMs = 1_000;
const insideMark = "PITWALL_LEAKS_INSIDE";
const say = (text: string): void => void process.stderr.write(`${text}\n`);

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  say(`error: ${messageChain(error)}`);
  process.exitCode = 1;
}
process.exit();

async function main(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: { vms: { type: "string", default: "300" }, driver: { type: "string", default: "sim" }, concurrency: { type: "string" } },
  });
  const chosen = Object.hasOwn(drivers, values.driver) ? drivers[values.driver] : undefined;
  if (!chosen) throw new Error(`--driver: there is no driver ${values.driver}\n${usage}`);
  const vms = wholeNumber("--vms", values.vms);
  const concurrency = wholeNumber("--concurrency", values.concurrency ?? chosen.concurrency);
  await provision(say); // from the network, which a namespace of our own has not
  const isInside = process.env[insideMark] === "1";
  if (!isInside && process.getuid?.() === 0) return inside(args);
  if (!isInside) say("not root: sockets and the network are looked at in this host's own namespace, which others change as well");
  const signal = untilTold();
  const result = await findLeaks({ vms, concurrency, driver: chosen.driver, isAlone: isInside, signal, say });
  for (const line of result.left) say(`left: ${line}`);
  for (const line of result.gone) say(`gone, and not missed: ${line.replace(": -", ": ")}`);
  for (const [table, words] of Object.entries(result.kept)) say(`kept: ${table}: ${words}`);
  for (const [name, { startMib, secondQuarterMib, lastQuarterMib, mostMib }] of Object.entries(result.memory))
    say(
      `memory of the ${name}: ${startMib} MiB at first, ${secondQuarterMib} in the second quarter, ${lastQuarterMib} in the last, ${mostMib} at most`,
    );
  process.stdout.write(`${JSON.stringify(result)}\n`);
  return result.left.length > 0 ? 1 : signal.aborted ? interrupted : 0;
}

/** Aborted by the first signal. One that comes right behind it is the same: a terminal tells all processes, and each tells its child. */
function untilTold(): AbortSignal {
  const told = new AbortController();
  let toldMs = 0;
  for (const name of ["SIGINT", "SIGTERM"] as const)
    process.on(name, () => {
      if (!told.signal.aborted) {
        toldMs = performance.now();
        say(`${name}: no more VMs are made; what those that came and went have left is looked at`);
        told.abort();
      } else if (performance.now() - toldMs > sameSignalMs) process.exit(interrupted);
    });
  return told.signal;
}

/** Once more, where nobody else is. */
async function inside(args: readonly string[]): Promise<number> {
  const script = 'ip link set lo up && { [ ! -d /run/netns ] || mount -t tmpfs tmpfs /run/netns; } && exec "$@"';
  const command = [process.execPath, ...process.execArgv, import.meta.filename, ...args];
  const child = spawn("unshare", ["--net", "--mount", "--propagation", "private", "sh", "-c", script, "sh", ...command], {
    stdio: "inherit",
    env: { ...process.env, [insideMark]: "1" },
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => child.once("exit", (code) => resolve(code ?? 1)).once("error", reject));
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${name}: must be a whole number from 1, got ${text}\n${usage}`);
  return value;
}
