// What VMs that have come and gone leave behind: nothing. `npm run leaks` does the same with thousands.
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "vitest";
import { findLeaks } from "./leaks/leaks.ts";
import { run } from "./support/run.ts";
import type { TestStack } from "./support/stack.ts";

const main = join(import.meta.dirname, "leaks", "main.ts");
const limitMs = 600_000;
const usualFolder = tmpdir(); // findLeaks has one of its own, as this process' too, while it looks

// Side by side: most of the time they wait for what goes by itself after a while.
it.concurrent.for([
  ["sim", 150, 16],
  ["qemu", 3, 3],
] as const)(
  "%s: the host and the database are the same before and after %i VMs",
  { timeout: limitMs + 5_000 },
  async ([driver, vms, atOnce], { expect }) => {
    const command = [process.execPath, main, "--driver", driver, "--vms", String(vms), "--concurrency", String(atOnce)];
    const { stdout, stderr, code } = await run(command, { timeoutMs: limitMs, env: { TMPDIR: usualFolder } });
    const last = stdout.trim().split("\n").at(-1) ?? "";
    expect(last, stderr).toMatch(/^\{/);
    expect(JSON.parse(last)).toMatchObject({ driver, vms, left: [] });
    expect(code).toBe(0);
  },
);

it.concurrent(
  "whatever is left behind is named",
  async ({ expect }) => {
    await using parts = new AsyncDisposableStack();
    const meddle = async ({ stack, query }: TestStack): Promise<void> => {
      const folder = join(stack.stateDir, "node", "vms", "forgotten");
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, "disk.ext4"), "");
      const sleeper = spawn("sleep", ["600"], { cwd: folder, stdio: "ignore" });
      parts.defer(() => void sleeper.kill("SIGKILL"));
      const silent = spawn("sleep", ["600"], { stdio: ["ignore", "ignore", "ignore"], env: { DIR: stack.stateDir } });
      parts.defer(() => void silent.kill("SIGKILL"));
      await query("insert into ssh_key values ('SHA256:forgotten', 'nobody', 'ssh-ed25519 AAAA', now())");
      await query("insert into project_usage (project_id, vms) select id, 1 from project where personal_of = 'dev'");
    };
    const { left } = await findLeaks({
      vms: 5,
      driver: "sim",
      concurrency: 5,
      isAlone: false,
      patienceMs: 2_000,
      say: () => undefined,
      meddle,
    });
    expect(left).toEqual(
      expect.arrayContaining([
        "processes: +sleep 600 (2)",
        expect.stringMatching(/^files: \+.*\/node\/vms\/forgotten$/),
        expect.stringMatching(/^files: \+.*\/node\/vms\/forgotten\/disk\.ext4$/),
        "rows: +a row of ssh_key",
        expect.stringMatching(/^sums: \+project_usage says .*"vms":1/),
      ]),
    );
  },
  limitMs,
);
