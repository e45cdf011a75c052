// Which programs running processes start, and with which words: strace, attached from outside.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";

export interface Executions extends AsyncDisposable {
  /** Ends the watching; what was started, with arguments and environments, as strace writes it. */
  end(): Promise<string>;
}

/** Watches these processes and all that they start; why that cannot be, where it cannot. What strace writes goes to the file `to`. */
export async function watchExecutions(pids: readonly number[], to: string): Promise<Executions | string> {
  const options = [
    "-f",
    "-v",
    "-s",
    "65536",
    "-e",
    "trace=execve",
    "-e",
    "signal=none",
    "-o",
    to,
    ...pids.flatMap((pid) => ["-p", String(pid)]),
  ];
  const strace = spawn("strace", options, { stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(strace, "close").catch(() => undefined);
  const why = await new Promise<string | undefined>((resolve) => {
    let said = "";
    strace.stderr.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if ((said.match(/Process \d+ attached/g) ?? []).length >= pids.length) resolve(undefined);
    });
    strace.once("error", (error) => resolve(error.message));
    strace.once("close", () => resolve(said.trim() || "strace ended"));
  });
  if (why !== undefined) return why;
  const stop = async (): Promise<void> => {
    strace.kill("SIGINT");
    await ended;
  };
  return {
    async end() {
      await stop();
      return readFile(to, "utf8");
    },
    [Symbol.asyncDispose]: stop,
  };
}
