// The CLI's composition root: the process as a shell for one command, and what is said and returned when it fails.
import { createInterface } from "node:readline/promises";
import { Interrupted, openSignals } from "./signals.ts";
import { exitCodes, messageChain, CliError } from "./failure.ts";
import { takesColour } from "./output/colours.ts";
import { plain } from "./output/terminal-text.ts";
import { runProgram } from "./program.ts";
import type { Shell } from "./shell.ts";

const { env, stdout, stderr } = process;
const outIsTerminal = stdout.isTTY;
const signals = openSignals(
  process,
  () => performance.now(),
  (code) => process.exit(code),
);

const shell: Shell = {
  env,
  folder: process.cwd(),
  signals,
  out: (data) => void stdout.write(data),
  note: (text) => void stderr.write(`${text}\n`),
  err: (text) => void stderr.write(text),
  outIsTerminal,
  errIsTerminal: stderr.isTTY,
  hasColour: takesColour(outIsTerminal, env),
  ask: process.stdin.isTTY && stderr.isTTY ? ask : undefined,
  endWith: (code) => void (process.exitCode = code),
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};

// Whoever reads our output may have seen enough.
stderr.on("error", () => undefined);
stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? exitCodes.ok : exitCodes.failure));

try {
  await runProgram(process.argv.slice(2), shell);
} catch (error) {
  process.exitCode = failed(error);
}
process.exit(); // a keep-alive connection must not hold a finished command

async function ask(question: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: stderr });
  try {
    return await lines.question(question, { signal: signals.signal });
  } finally {
    lines.close();
  }
}

function failed(error: unknown): number {
  const reason: unknown = signals.signal.reason;
  if (reason instanceof Interrupted) return reason.exitCode;
  stderr.write(`error: ${plain(messageChain(error))}\n`);
  return error instanceof CliError ? error.exitCode : exitCodes.failure;
}
