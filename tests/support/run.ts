// Runs a program to its end and tells everything about it.
import { spawn } from "node:child_process";

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

const limitMs = 120_000;

/** Never rejects for an exit code; rejects when the program cannot be started. A program that takes longer than two minutes is killed. */
export async function run(
  [program = "", ...args]: readonly string[],
  { input, env, cwd, timeoutMs = limitMs }: { input?: string; env?: NodeJS.ProcessEnv; cwd?: string; timeoutMs?: number } = {},
): Promise<Ended> {
  const child = spawn(program, args, {
    detached: true, // a group of its own, so that the limit ends what the program has started too
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, ...env },
    ...(cwd !== undefined && { cwd }),
  });
  const timer = setTimeout(() => child.pid !== undefined && process.kill(-child.pid, "SIGKILL"), timeoutMs);
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.stdin.on("error", () => undefined); // it may end without reading
  child.stdin.end(input ?? "");
  try {
    const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.once("close", (...how) => resolve(how)).once("error", reject);
    });
    return { code, signal, stdout, stderr };
  } finally {
    clearTimeout(timer);
  }
}
