// The agents that use one cache folder, each by a file in it. They share what is there, but see nothing of each other's leases.
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { identify, isAlive } from "@pitwall/runtime";

/** Disposing it, and the death of the process, say that the folder is no longer used. */
export interface Sharers extends AsyncDisposable {
  /** Whether another live agent uses the folder. */
  hasOthers(): Promise<boolean>;
}

export async function joinSharers(dir: string): Promise<Sharers> {
  await mkdir(dir, { recursive: true });
  const own = `${process.pid}.${identify(process.pid)?.startTicks ?? 0n}`;
  await writeFile(join(dir, own), "");
  return {
    async hasOthers() {
      let found = false;
      for (const name of await readdir(dir)) {
        const [, pid, startTicks] = /^(\d{1,9})\.(\d{1,19})$/.exec(name) ?? [];
        if (name === own || pid === undefined || startTicks === undefined) continue;
        if (isAlive({ pid: Number(pid), startTicks: BigInt(startTicks) })) found = true;
        else await rm(join(dir, name), { force: true });
      }
      return found;
    },
    [Symbol.asyncDispose]: () => rm(join(dir, own), { force: true }),
  };
}
