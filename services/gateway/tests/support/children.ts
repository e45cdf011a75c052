// Processes of tests: a gateway that runs alone, as the command starts it.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

const cli = join(import.meta.dirname, "..", "..", "..", "..", "clients", "cli", "bin", "pitwall.mjs");

export interface LoneGateway extends AsyncDisposable {
  readonly port: number;
  /** Of the command. */
  readonly pid: number;
  readonly line: string;
  /** Sends SIGTERM; its exit code. */
  stop(): Promise<number | null>;
}

/** `pitwall gateway --upstream …` on a free port. Rejects with what it said when it does not start. */
export async function startLoneGateway(upstreamPort: number, flags: readonly string[] = []): Promise<LoneGateway> {
  const gateway = ["gateway", "--upstream", `127.0.0.1:${upstreamPort}`, "--listen", "127.0.0.1:0", "--insecure-no-auth", ...flags];
  const child = spawn(process.execPath, [cli, ...gateway], {
    env: { ...process.env, PITWALL_LOG_LEVEL: "warn" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (complaint += text));
  const line = (await firstOutput(child, (output) => (output.includes("\n") ? output.toString() : undefined))) ?? "";
  if (line === "") throw new Error(`the gateway does not start: ${complaint}`);
  const { port } = JSON.parse(line) as { port: number };
  const stop = async (): Promise<number | null> => {
    if (child.exitCode === null && child.kill("SIGTERM")) await once(child, "exit");
    return child.exitCode;
  };
  return { port, pid: child.pid ?? 0, line, stop, [Symbol.asyncDispose]: async () => void (await stop()) };
}

/** What `take` makes of a child's output, as soon as it makes something of it; undefined when the child ends before that. */
export async function firstOutput<T>(child: ChildProcess, take: (output: Buffer) => T | undefined): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    let output = Buffer.alloc(0);
    child.stdout?.on("data", (chunk: Buffer) => {
      output = Buffer.concat([output, chunk]);
      const taken = take(output);
      if (taken !== undefined) resolve(taken);
    });
    child.once("close", () => resolve(undefined)).once("error", reject);
  });
}
