// Runs a program to its end and tells everything about it.
import { spawn } from "node:child_process";

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

const limitMs = 120_000;

export interface RunOptions {
  /** Default: nothing. */
  readonly input?: string | Buffer;
  /** Added to this process's own. */
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly timeoutMs?: number;
}

/** Never rejects for an exit code; rejects when the program cannot be started. A program that takes longer than two minutes is killed. */
export async function run(words: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const { stdout, ...rest } = await runForBytes(words, options);
  return { ...rest, stdout: stdout.toString() };
}

/** The same for a program whose output is no text. */
export async function runForBytes(
  [program = "", ...args]: readonly string[],
  { input, env, cwd, timeoutMs = limitMs }: RunOptions = {},
): Promise<Omit<Ended, "stdout"> & { readonly stdout: Buffer }> {
  const child = spawn(program, args, {
    detached: true, // a group of its own, so that the limit ends what the program has started too
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, ...env },
    ...(cwd !== undefined && { cwd }),
  });
  const timer = setTimeout(() => child.pid !== undefined && process.kill(-child.pid, "SIGKILL"), timeoutMs);
  const stdout: Buffer[] = [];
  let stderr = "";
  child.stdout.on("data", (part: Buffer) => stdout.push(part));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.stdin.on("error", () => undefined); // it may end without reading
  child.stdin.end(input ?? "");
  try {
    const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.once("close", (...how) => resolve(how)).once("error", reject);
    });
    return { code, signal, stdout: Buffer.concat(stdout), stderr };
  } finally {
    clearTimeout(timer);
  }
}
