// How every service process begins and ends.
import { messageChain, PitwallError } from "./errors.ts";
import type { Log } from "./log.ts";

const lastResortMs = 30_000;

/**
 * Starts a service, waits for SIGTERM or SIGINT, disposes it. A second signal, or 30 s, ends the process at once.
 * A failed start prints one line for a person and sets exit code 1 (2 for bad configuration).
 */
export async function runMain(log: Log, start: () => Promise<AsyncDisposable>): Promise<void> {
  const signalled = new Promise<NodeJS.Signals>((resolve) => {
    let count = 0;
    for (const name of ["SIGTERM", "SIGINT"] as const) {
      process.on(name, () => {
        if (++count > 1) process.exit(130);
        resolve(name);
      });
    }
  });
  let running: AsyncDisposable;
  try {
    running = await start();
  } catch (error) {
    log.error("start failed", { error });
    process.stderr.write(`error: ${messageChain(error)}\n`);
    process.exitCode = error instanceof PitwallError && error.reason === "INVALID_CONFIG" ? 2 : 1;
    setTimeout(() => process.exit(), 2_000).unref(); // a half-open handle must not keep a failed start alive
    return;
  }
  const signal = await signalled;
  log.info("stopping", { signal });
  const timer = setTimeout(() => {
    log.error("stop took too long");
    process.exit(1);
  }, lastResortMs);
  await running[Symbol.asyncDispose]();
  clearTimeout(timer);
  log.info("stopped");
}
