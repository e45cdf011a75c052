// One agent per state folder: two would fight over the same VMs.
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { PitwallError, writeFileAtomic, identify, isAlive } from "@pitwall/runtime";

/** Disposing it frees the folder; so does the death of the process. Throws `state` when another agent has it. */
export async function lockState(dir: string, what = "uses this state folder"): Promise<AsyncDisposable> {
  const path = join(dir, "agent.lock");
  const [pid, startTicks] = (await readFile(path, "utf8").catch(() => "")).split(" ");
  if (pid && startTicks && isAlive({ pid: Number(pid), startTicks: BigInt(startTicks) })) {
    throw new PitwallError("state", `another agent (pid ${pid}) ${what}`, { reason: "STATE_IN_USE" });
  }
  const self = identify(process.pid);
  await writeFileAtomic(path, `${process.pid} ${self?.startTicks ?? 0n}`);
  return {
    async [Symbol.asyncDispose]() {
      await rm(path, { force: true });
    },
  };
}
