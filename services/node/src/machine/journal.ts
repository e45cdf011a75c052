// A VM's journal on disk: written before each effect, removed last, so that a killed agent finds all it made.
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { Assignment, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { writeFileAtomic } from "@pitwall/runtime";
import { z } from "zod";
import type { VmmProcess } from "./vmm.ts";

/** Everything the agent knows of one VM. */
export interface JournalEntry {
  /** What the controller last asked for. */
  readonly assignment: Assignment;
  /** What was last reported. */
  readonly report: VmReport;
  /** The VMM, from just after its start until it was seen to be gone. */
  readonly process: VmmProcess | undefined;
  /** A VMM may be running that `process` does not name yet. */
  readonly starting: boolean;
  /** Boot of the host that this was written in. */
  readonly bootId: string;
}

const stored = z.object({
  version: z.literal(1),
  assignment: z.unknown(),
  report: z.unknown(),
  process: z.object({ driver: z.string(), pid: z.number().int(), startTicks: z.string() }).optional(),
  starting: z.boolean(),
  bootId: z.string(),
});

const fileName = "vm.json";

/** The first step of a VM: its folder, and in it what is wanted. */
export async function createJournal(dir: string, entry: JournalEntry): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await writeJournal(dir, entry);
}

export async function writeJournal(dir: string, entry: JournalEntry): Promise<void> {
  const { assignment, report, process, starting, bootId } = entry;
  const text = JSON.stringify({
    version: 1,
    assignment: Assignment.toJSON(assignment),
    report: VmReport.toJSON(report),
    ...(process && { process: { ...process, startTicks: String(process.startTicks) } }),
    starting,
    bootId,
  } satisfies z.input<typeof stored>);
  await writeFileAtomic(join(dir, fileName), text);
}

/** The last step of a removal. */
export async function removeJournal(dir: string): Promise<void> {
  for (const name of await readdir(dir).catch(() => [])) if (name !== fileName) await rm(join(dir, name), { recursive: true, force: true });
  await rm(dir, { recursive: true, force: true });
}

/** All VMs below `root`, which is made when it is not there, by folder. A folder without a journal is what a crash left before anything was promised: it is removed. */
export async function readJournals(root: string): Promise<readonly { readonly dir: string; readonly entry: JournalEntry }[]> {
  await mkdir(root, { recursive: true, mode: 0o700 });
  const found = [];
  for (const name of await readdir(root)) {
    const dir = join(root, name);
    const text = await readFile(join(dir, fileName), "utf8").catch(() => undefined);
    if (text === undefined) await rm(dir, { recursive: true, force: true });
    else {
      const { assignment, report, process, starting, bootId } = stored.parse(JSON.parse(text));
      const identity = process && { ...process, startTicks: BigInt(process.startTicks) };
      found.push({
        dir,
        entry: { assignment: Assignment.fromJSON(assignment), report: VmReport.fromJSON(report), process: identity, starting, bootId },
      });
    }
  }
  return found;
}
