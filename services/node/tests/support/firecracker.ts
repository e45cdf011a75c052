// A host with Firecracker, for tests: where its programs are named, and what VMs have left on it.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { silentLog, type Failpoints } from "@pitwall/runtime";
import { openFirecrackerDriver } from "../../src/firecracker/driver.ts";
import type { InstalledPrograms } from "../../src/firecracker/programs.ts";
import type { VmmDriver } from "../../src/machine/vmm.ts";

const { PITWALL_FIRECRACKER_BIN: firecracker, PITWALL_JAILER_BIN: jailer } = process.env;

/** Undefined where there is none. */
export const installed: InstalledPrograms | undefined = firecracker && jailer ? { firecracker, jailer } : undefined;

/** Says on the console that `what` did not run. */
export function sayMissing(what: string): void {
  if (installed) return;
  process.stdout.write(
    `skipped: ${what} DID NOT RUN: set PITWALL_FIRECRACKER_BIN and PITWALL_JAILER_BIN, as root on a host with KVM (docs/operate.md, "Firecracker")\n`,
  );
}

/** One more agent's driver of a host whose state is in `dir`. */
export function openDriver(
  dir: string,
  kernel: string,
  more: { readonly extra?: readonly string[]; readonly failpoints?: Failpoints } = {},
): VmmDriver {
  if (!installed) throw new Error("there is no Firecracker here");
  return openFirecrackerDriver({ installed, stateDir: dir, kernel, uids: { first: 1_900_000_000, count: 64 }, log: silentLog, ...more });
}

/** User ids that are leased by an agent with its state in `dir`, and cgroups of any VM. */
export async function leftovers(dir: string): Promise<readonly string[]> {
  const leases = await readdir(join(dir, "firecracker", "uids"));
  const cgroups = await readdir("/sys/fs/cgroup/pitwall", { withFileTypes: true });
  return [...leases, ...cgroups.filter((entry) => entry.isDirectory()).map(({ name }) => name)];
}
