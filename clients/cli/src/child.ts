// Another program in this one's place: it has the terminal, gets the signals, and its exit code is ours.
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { CliError } from "./failure.ts";
import type { Signals } from "./signals.ts";

export interface ChildOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** In a session of its own, so that Ctrl-C reaches it through us alone, once. */
  readonly isDetached?: boolean;
}

/** Its exit code, or 128 and the number of the signal that ended it. Throws when it cannot be started. */
export async function runChild(program: string, args: readonly string[], signals: Signals, options: ChildOptions = {}): Promise<number> {
  signals.signal.throwIfAborted();
  const child = spawn(program, args, { stdio: "inherit", detached: options.isDetached ?? false, ...(options.env && { env: options.env }) });
  using _loan = signals.lend((name) => void child.kill(name));
  return await new Promise<number>((resolve, reject) => {
    child.once("exit", (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
    child.once("error", (cause) => reject(new CliError(`${program} cannot be run: is it installed?`, { cause })));
  });
}

/** Runs a program that prints something; throws with what it complained of. */
export async function runQuietly(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let complaint = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (complaint += text));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("close", resolve);
    child.once("error", (cause) => reject(new CliError(`${program} cannot be run: is it installed?`, { cause })));
  });
  if (code !== 0) throw new CliError(`${program} failed: ${complaint.trim() || `exit code ${code}`}`);
  return out;
}
