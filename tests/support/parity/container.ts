// The reference: the same image, turned into a runtime configuration by umoci and run by runc.
import { spawn, type ChildProcess } from "node:child_process";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { run, type Ended } from "../run.ts";
import { makeBundle, type ContainerOptions } from "./bundle.ts";
import { findReport, findSignal, type Report } from "./report.ts";

export interface Outcome {
  readonly report: Report | undefined;
  /** The signal that reached a process which waited for one. */
  readonly signal: number | undefined;
  /** As a shell says it: 128 and the signal's number for a process that one ended. Undefined: it was stopped by the test. */
  readonly exit: number | undefined;
  readonly output: string;
}

const upLimitMs = 30_000;

/** Runs the image. `stop` sends its stop signal once the probe has reported. */
export async function runContainer(options: ContainerOptions, stop: boolean): Promise<Outcome> {
  return inContainer(options, async ({ child, runc, stopSignal }) => {
    return follow(child, async () => {
      if (stop) await runc(["kill"], stopSignal);
    });
  });
}

/** Runs the image until `isUp` likes what the probe says of its process, then kills it. */
export async function inspectContainer(options: ContainerOptions, isUp: (report: Report) => boolean): Promise<Outcome> {
  return inContainer(options, async ({ child, runc }) => {
    const ended = follow(child, async () => undefined);
    let report: Report | undefined;
    await expect
      .poll(
        async () => {
          const { stdout } = await runc(["exec", "--user", "0:0", "--cap", "CAP_SYS_PTRACE"], "/probe", "--main");
          report = findReport(stdout);
          return report !== undefined && isUp(report);
        },
        { timeout: upLimitMs, message: `${options.tag} as a container` },
      )
      .toBe(true);
    await runc(["kill"], "KILL");
    return { ...(await ended), report };
  });
}

interface Running {
  readonly child: ChildProcess;
  /** Runs `runc VERB FLAGS ID ARGS`. */
  readonly runc: (verb: readonly string[], ...args: readonly string[]) => Promise<Ended>;
  readonly stopSignal: string;
}

/** Leaves no container and no files. */
async function inContainer(options: ContainerOptions, work: (running: Running) => Promise<Outcome>): Promise<Outcome> {
  const { dir, tag } = options;
  const id = `pitwall-parity-${process.pid}-${tag}`;
  const root = ["--root", join(dir, "state")];
  const runc: Running["runc"] = ([verb = "", ...flags], ...args) => run(["runc", ...root, verb, ...flags, id, ...args]);
  try {
    const { stopSignal, refusal } = await makeBundle(options);
    if (refusal !== undefined) return { report: undefined, signal: undefined, exit: 125, output: refusal };
    const child = spawn("runc", [...root, "run", "--bundle", dir, id], { stdio: ["ignore", "pipe", "pipe"] });
    return await work({ child, runc, stopSignal });
  } finally {
    await runc(["delete", "--force"]);
    await rm(dir, { recursive: true, force: true });
  }
}

async function follow(child: ChildProcess, onReport: () => Promise<void>): Promise<Outcome> {
  let output = "";
  let told = false;
  const hear = (text: string): void => {
    output += text;
    if (told || findReport(output) === undefined) return;
    told = true;
    void onReport();
  };
  child.stdout?.setEncoding("utf8").on("data", hear);
  child.stderr?.setEncoding("utf8").on("data", hear);
  const exit = await new Promise<number>((resolve, reject) => {
    child.once("close", (code) => resolve(code ?? 255)).once("error", reject);
  });
  return { report: findReport(output), signal: findSignal(output), exit, output };
}
