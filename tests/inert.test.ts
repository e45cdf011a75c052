// What breaks a program on purpose does nothing in production: no program starts with it, and what is compiled does not have it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { provideBreakable, provision } from "@pitwall/quickstart";
import { expect, test } from "vitest";

const services = join(import.meta.dirname, "..", "services");

test.each(["controller", "node", "gateway"])("the %s does not start with failpoints that it was not allowed", async (service) => {
  const child = spawn(process.execPath, [join(services, service, "src", "main.ts")], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { PATH: process.env["PATH"], PITWALL_FAILPOINTS: "create.vmm.spawned=exit" },
  });
  const [said] = await Promise.all([text(child.stderr), once(child, "exit")]);
  expect(said).toContain("PITWALL_FAILPOINTS breaks this process on purpose: unset it, or allow it in a test");
  expect(child.exitCode).toBe(2);
});

test("compiled programs have no failpoints; those for tests have them", { timeout: 180_000 }, async () => {
  const { powerunit, cacheDir } = await provision(() => undefined);
  const hasFailpoints = async (path: string): Promise<boolean> => (await readFile(path)).includes("PITWALL_FAILPOINTS");
  expect(await Promise.all([powerunit, `${powerunit}-ssh`, `${powerunit}-fence`].map(hasFailpoints))).toEqual([false, false, false]);
  const breakable = await provideBreakable(cacheDir, () => undefined);
  expect(await Promise.all([breakable, `${breakable}-fence`].map(hasFailpoints))).toEqual([true, true]);
});
