// Programs that outlive the agent: each is started in a folder of its own, and found again by pid and start time.
import { spawn } from "node:child_process";
import { open } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { PitwallError, systemClock, identify, isAlive, waitForExit, type ProcessIdentity } from "@pitwall/runtime";

const pollMs = 5;

/** Both are null when that cannot be known. */
export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: string | null;
}

export interface DetachedProcess {
  /** Undefined when it could not be started, or has ended already. */
  readonly identity: ProcessIdentity | undefined;
  /** Never rejects. */
  readonly ended: Promise<ProcessEnd>;
}

/** Starts `program` with `dir` as its working directory and all its output in the file `output` there. */
export async function spawnDetached(program: string, args: readonly string[], dir: string, output: string): Promise<DetachedProcess> {
  const file = await open(join(dir, output), "w", 0o600);
  const child = spawn(program, args, { cwd: dir, detached: true, stdio: ["ignore", file.fd, file.fd] });
  const ended = new Promise<ProcessEnd>((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal }));
    child.once("error", () => resolve({ code: null, signal: null }));
  });
  await file.close();
  child.unref();
  return { identity: child.pid === undefined ? undefined : identify(child.pid), ended };
}

/** The end of a process that an earlier agent started. */
export async function endOf(process: ProcessIdentity): Promise<ProcessEnd> {
  await waitForExit(process);
  return { code: null, signal: null };
}

/** Resolves once the process accepts connections on a UNIX socket: the file is there a little sooner. Throws `unavailable` when it ends or takes too long. */
export async function untilListening(identity: ProcessIdentity, path: string, limitMs: number): Promise<void> {
  const deadline = systemClock.monotonicMs() + limitMs;
  while (!(await accepts(path))) {
    if (!isAlive(identity)) throw new PitwallError("unavailable", "it ended at once");
    if (systemClock.monotonicMs() > deadline) throw new PitwallError("unavailable", `it did not listen within ${limitMs} ms`);
    await systemClock.sleep(pollMs);
  }
}

async function accepts(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    return await new Promise<boolean>((resolve) => socket.once("connect", () => resolve(true)).once("error", () => resolve(false)));
  } finally {
    socket.destroy();
  }
}
