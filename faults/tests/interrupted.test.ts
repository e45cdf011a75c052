// A campaign that is interrupted: what it has started ends, and it says what was done.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { systemClock } from "@pitwall/runtime";
import { expect, onTestFinished, test } from "vitest";

test.each(["SIGINT", "SIGTERM"] as const)(
  "a campaign that %s reaches ends its PostgreSQL and says what was done",
  { timeout: 120_000 },
  async (signal) => {
    const dir = await mkdtemp(join(tmpdir(), "pitwall-interrupted-"));
    onTestFinished(() => rm(dir, { recursive: true, force: true }));
    const main = join(import.meta.dirname, "..", "main.ts");
    const campaign = spawn(process.execPath, [main, "--schedules", "1000", "--workers", "1"], { env: { ...process.env, TMPDIR: dir } });
    onTestFinished(() => void campaign.kill("SIGKILL"));
    const [said, ended] = [text(campaign.stdout), once(campaign, "close")];
    const server = await serverBelow(dir);
    campaign.kill(signal);
    expect(await ended).toEqual([130, null]);
    const last: unknown = JSON.parse((await said).trim().split("\n").at(-1) ?? "");
    expect(last).toMatchObject({ violations: [], seed: "1" });
    expect((last as { schedules: number }).schedules).toBeLessThan(1_000);
    expect(await isAlive(server)).toBe(false);
    expect(await readdir(dir)).toEqual([]);
  },
);

/** Its process id, once it takes connections. */
async function serverBelow(dir: string): Promise<number> {
  for (;;) {
    const [found] = await readdir(dir);
    const path = join(dir, found ?? "", "postgres", "data", "postmaster.pid");
    const lines = (await readFile(path, "utf8").catch(() => "")).split("\n");
    if (lines[7]?.trim() === "ready") return Number(lines[0]);
    await systemClock.sleep(20);
  }
}

/** Not one that has ended, and that nobody has asked after. */
async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return stat !== "" && !/\) [ZX] /.test(stat);
}
