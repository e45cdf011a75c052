// Runs a scenario in a network namespace of its own, where that can be made.
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { z } from "zod";

const run = promisify(execFile);
const env = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` };

/** Why not; empty: it can be made here. */
export async function obstacle(): Promise<string> {
  if (process.getuid?.() !== 0) return "it needs root";
  const links = "ip link add pwbr0 type bridge && ip tuntap add dev pw0 mode tap && ip link set pw0 master pwbr0";
  const probe = `${links} && nft add table bridge x && nft add table inet x && perl -e 1`;
  return run("unshare", ["-n", "sh", "-c", probe], { env }).then(
    () => "",
    (error: unknown) => `bridges, TAPs and nftables cannot be made in a network namespace here: ${String(error).split("\n")[1] ?? ""}`,
  );
}

/** What it says with its last line. It gets a folder of its own. */
export async function play<T>(scenario: string, shape: z.ZodType<T>, limitMs: number): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-network-"));
  try {
    const program = [process.execPath, join(import.meta.dirname, scenario), join(dir, "state")];
    const { stdout } = await run("unshare", ["-n", ...program], { env, timeout: limitMs, maxBuffer: 64 * 2 ** 20 });
    return shape.parse(JSON.parse(stdout.trim().split("\n").at(-1) ?? ""));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
