// What machines get of a real host, for tests that run them without a link.
import { join } from "node:path";
import { noFailpoints, silentLog, systemClock, systemRandom } from "@pitwall/runtime";
import { openGuest } from "../../src/guest/client.ts";
import { openJournalFiles } from "../../src/host/journal-files.ts";
import { noFence } from "../../src/host/no-fence.ts";
import { hostProcesses } from "../../src/host/processes.ts";
import type { MachineHost } from "../../src/machine/host.ts";

/** All but what a test chooses itself. Journals are in `vms` below `dir`. */
export function realHost(dir: string): Omit<MachineHost, "driver" | "ingredients" | "onReport"> {
  return {
    kernel: "",
    processes: hostProcesses,
    journals: openJournalFiles(join(dir, "vms")),
    fence: { ...noFence, isLeaseHeld: () => false },
    network: undefined,
    openGuest,
    clock: systemClock,
    random: systemRandom,
    failpoints: noFailpoints,
    bootId: "1",
    bootLimitMs: 10_000,
    log: silentLog,
  };
}
