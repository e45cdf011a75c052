// The folder of what is made once per machine, and one maker at a time.
import { mkdir, open, readFile, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@pitwall/runtime";

/** PITWALL_CACHE, or /var/cache/pitwall for root, or ~/.cache/pitwall. */
export function cacheDir(env: NodeJS.ProcessEnv = process.env): string {
  const own = env["PITWALL_CACHE"];
  if (own !== undefined && own !== "") return own;
  if (process.getuid?.() === 0) return "/var/cache/pitwall";
  return join(env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "pitwall");
}

/** Runs `work` while no other process runs its own for this folder. A lock whose holder has died is taken. */
export async function withLock<T>(dir: string, say: (text: string) => void, work: () => Promise<T>): Promise<T> {
  await mkdir(dir, { recursive: true });
  const path = join(dir, "lock");
  for (let told = false; ;) {
    const file = await open(path, "wx").catch((error: unknown) => {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      return undefined;
    });
    if (file) {
      await file.writeFile(String(process.pid));
      await file.close();
      break;
    }
    const holder = Number(await readFile(path, "utf8").catch(() => "0"));
    if (holder > 0 && !isAlive(holder)) await rm(path, { force: true });
    else {
      if (!told) say(`waiting for process ${holder || "(unknown)"}, which prepares the same cache`);
      told = true;
      await systemClock.sleep(500);
    }
  }
  try {
    return await work();
  } finally {
    await rm(path, { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
