// One service as a child process: started, waited for, started again when it dies, stopped.
import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { nodeArguments, systemClock } from "@pitwall/runtime";
import { z } from "zod";

const root = join(import.meta.dirname, "..", "..", "..");
const readyLimitMs = 60_000;
const stopLimitMs = 20_000;
/** A service that dies sooner than this after its start is started again more slowly each time. */
const steadyMs = 10_000;
const maxDelayMs = 5_000;

const ready = z.looseObject({ ready: z.literal(true) });
export type Ready = z.output<typeof ready>;

export type ServiceName = "issuer" | "controller" | "node" | "gateway";

export interface ServiceSpec {
  readonly name: ServiceName;
  /** Added to a clean environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Takes its JSON lines. */
  readonly logFile: string;
}

/** Told what the supervisor does about a service that died. */
export type OnEvent = (text: string) => void;

/** A running service. Disposing it stops it and resolves when it is gone. */
export interface Service extends AsyncDisposable {
  readonly name: ServiceName;
  /** Of the process that runs now. */
  pid(): number | undefined;
  /** What it printed when it was ready the first time. */
  readonly ready: Ready;
  /** Adds to its environment from its next start on. */
  setEnv(env: Readonly<Record<string, string>>): void;
}

/** Resolves when the service is ready. Throws with the line it printed when it could not start. */
export async function startService(spec: ServiceSpec, onEvent: OnEvent): Promise<Service> {
  let { env } = spec;
  let stopping = false;
  let child: ChildProcess | undefined;
  let gone: Promise<void> = Promise.resolve();
  let delay = 0;

  const launch = async (): Promise<Ready> => {
    const log = openSync(spec.logFile, "a", 0o600);
    const made = spawn(process.execPath, [...nodeArguments(spec.name), join(root, "services", spec.name, "src", "main.ts")], {
      cwd: root,
      // Its own process group: Ctrl-C is for the supervisor, which stops the services in their order.
      detached: true,
      stdio: ["ignore", "pipe", log],
      env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "/", TMPDIR: process.env["TMPDIR"] ?? "/tmp", ...env },
    });
    closeSync(log);
    child = made;
    const since = systemClock.monotonicMs();
    gone = new Promise((resolve) => made.once("exit", () => resolve()).once("error", () => resolve()));
    const first = await firstLine(made, spec);
    void gone.then(async () => {
      if (stopping) return;
      delay = systemClock.monotonicMs() - since > steadyMs ? 0 : Math.min(maxDelayMs, delay * 2 + 100);
      onEvent(`the ${spec.name} ended (${made.signalCode ?? made.exitCode}); starting it again`);
      await systemClock.sleep(delay);
      if (!stopping) await relaunch();
    });
    return first;
  };
  const relaunch = async (): Promise<void> => {
    while (!stopping) {
      try {
        await launch();
        return;
      } catch (error) {
        onEvent(error instanceof Error ? error.message : String(error));
        await systemClock.sleep((delay = Math.min(maxDelayMs, delay * 2 + 100)));
      }
    }
  };

  const first = await launch();
  return {
    name: spec.name,
    ready: first,
    pid: () => (child?.exitCode === null && child.signalCode === null ? child.pid : undefined),
    setEnv: (next) => {
      env = { ...env, ...next };
    },
    async [Symbol.asyncDispose]() {
      stopping = true;
      child?.kill("SIGTERM");
      const timer = setTimeout(() => child?.kill("SIGKILL"), stopLimitMs);
      await gone;
      clearTimeout(timer);
    },
  };
}

async function firstLine(child: ChildProcess, { name, logFile }: ServiceSpec): Promise<Ready> {
  const limit = setTimeout(() => child.kill("SIGKILL"), readyLimitMs);
  try {
    if (!child.stdout) throw new Error("a child without a pipe");
    for await (const line of createInterface({ input: child.stdout })) return ready.parse(JSON.parse(line));
    throw new Error(await lastError(logFile));
  } catch (cause) {
    child.kill("SIGKILL");
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`the ${name} did not start: ${why} (its log is ${logFile})`, { cause });
  } finally {
    clearTimeout(limit);
    child.stdout?.resume();
  }
}

async function lastError(logFile: string): Promise<string> {
  const lines = (await readFile(logFile, "utf8").catch(() => "")).trim().split("\n");
  return lines.findLast((line) => line.startsWith("error: "))?.slice("error: ".length) ?? lines.at(-1) ?? "it said nothing";
}
