// What tells an agent from another one that has a copy of its state folder: the boot of its host, and the folder itself.
import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";

/** The same after a restart of the agent, also when the folder was renamed. `bootId` is the kernel's. Says nothing of either to who reads it. */
export async function hostMark(stateDir: string, bootId: string): Promise<string> {
  const { dev, ino } = await stat(stateDir, { bigint: true });
  return createHash("sha256").update(`${bootId} ${dev} ${ino}`).digest("hex").slice(0, 32);
}
