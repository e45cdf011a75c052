// Processes of the benchmark's own that are told what to do over IPC, and answer one thing at a time.
import { execFileSync, fork, type ChildProcess } from "node:child_process";
import { join } from "node:path";

/** Disposing it kills the process. */
export interface Child extends AsyncDisposable {
  readonly pid: number;
  /** Sends an order; its answer. Rejects when the process ends first. */
  ask(order: object): Promise<unknown>;
}

/** `file` is one beside this one. With a core it runs there alone; `flags` are Node's. */
export function startChild(file: string, core?: number, flags: readonly string[] = []): Child {
  const child = fork(join(import.meta.dirname, file), { execArgv: ["--disable-warning=DEP0123", "--expose-gc", ...flags] });
  if (core !== undefined)
    execFileSync("taskset", ["--all-tasks", "--cpu-list", "--pid", String(core), String(child.pid)], { stdio: "ignore" });
  return {
    pid: child.pid ?? 0,
    async ask(order) {
      const answer = answerOf(child, file);
      child.send(order);
      return answer;
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
    },
  };
}

async function answerOf(child: ChildProcess, file: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const onExit = (): void => reject(new Error(`${file} ended`));
    child.once("exit", onExit);
    child.once("message", (message) => {
      child.off("exit", onExit);
      resolve(message);
    });
  });
}
