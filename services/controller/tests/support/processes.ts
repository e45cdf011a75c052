// Services as processes of their own: they can be killed.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { nodeArguments } from "@pitwall/runtime";

const ownRoot = join(import.meta.dirname, "..", "..", "..", "..");

/** Disposing it ends the process with SIGTERM and waits for it. */
export interface ServiceProcess extends AsyncDisposable {
  /** What it printed when it was ready. */
  readonly ready: Readonly<Record<string, unknown>>;
  readonly pid: number;
  /** Everything that it has logged. */
  log(): string;
  signal(name: NodeJS.Signals): void;
  /** Resolves when the process is gone. */
  readonly ended: Promise<unknown>;
}

/** A bug that is planted in this process is planted in those that it starts. */
const planted = Object.fromEntries(
  ["PITWALL_PLANTED", "PITWALL_ALLOW_FAILPOINTS"].flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
);

/** Resolves when the service is ready. Throws with its log when it ends before. `root` is the repository, of this release or of another. */
export async function startProcess(name: string, env: Readonly<Record<string, string>>, root = ownRoot): Promise<ServiceProcess> {
  const child: ChildProcess = spawn(process.execPath, [...nodeArguments(name), join(root, "services", name, "src", "main.ts")], {
    env: { PATH: process.env["PATH"], ...planted, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (said += text));
  const ended = once(child, "exit");
  const running = {
    log: () => said,
    pid: child.pid ?? 0,
    signal: (signal: NodeJS.Signals) => void child.kill(signal),
    ended,
    async [Symbol.asyncDispose]() {
      child.kill("SIGCONT");
      child.kill("SIGTERM");
      await ended;
    },
  };
  if (!child.stdout) throw new Error("a child without a pipe");
  for await (const line of createInterface({ input: child.stdout })) {
    const parsed: unknown = line.startsWith("{") ? JSON.parse(line) : undefined;
    if (typeof parsed === "object" && parsed !== null && "ready" in parsed) {
      child.stdout.resume();
      return { ...running, ready: { ...parsed } };
    }
  }
  await ended;
  throw new Error(`the ${name} did not start: ${said}`);
}
