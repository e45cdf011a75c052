// Runs a command to its end; its failure is one readable error.
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);
const maxOutput = 64 * 2 ** 20;

export interface CommandOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Ends the command with SIGTERM when it aborts. */
  signal?: AbortSignal;
}

/** Its standard output. Throws with the last lines it wrote. */
export async function command(name: string, args: readonly string[], { cwd, env, signal }: CommandOptions = {}): Promise<string> {
  try {
    const { stdout } = await run(name, [...args], {
      maxBuffer: maxOutput,
      ...(cwd !== undefined && { cwd }),
      ...(signal && { signal }),
      env: { ...process.env, ...env },
    });
    return stdout;
  } catch (cause) {
    signal?.throwIfAborted();
    const said = cause instanceof Error && "stderr" in cause ? String(cause.stderr).trim().split("\n").slice(-4).join(" | ") : "";
    throw new Error(`${[name, ...args].join(" ").slice(0, 120)} failed${said === "" ? "" : `: ${said}`}`, { cause });
  }
}
