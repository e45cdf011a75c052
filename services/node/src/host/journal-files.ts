// Journals on disk: `ROOT/UUID/vm.json`, beside it what else the VM has.
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { isMissing, syncPath, writeFileAtomic } from "@pitwall/runtime";
import { decodeEntry, encodeEntry, type DamagedJournal, type JournalEntry, type Journals, type JournalStore } from "../machine/journal.ts";

const fileName = "vm.json";

export const journalsIn = (stateDir: string): string => join(stateDir, "vms");

/** `root` is made when it is not there. */
export function openJournalFiles(root: string): JournalStore {
  const dirOf = (vmId: string): string => join(root, vmId);
  const clear = async (vmId: string): Promise<void> => {
    const dir = dirOf(vmId);
    for (const name of await readdir(dir).catch(() => []))
      if (name !== fileName) await rm(join(dir, name), { recursive: true, force: true });
  };
  return {
    dirOf,
    clear,
    async write(vmId, entry) {
      const made = await mkdir(dirOf(vmId), { recursive: true, mode: 0o700 });
      try {
        await writeFileAtomic(join(dirOf(vmId), fileName), encodeEntry(entry));
      } catch (error) {
        // A folder without a journal is nobody's: no removal would ever come for it.
        if (made !== undefined) await rm(dirOf(vmId), { recursive: true, force: true }).catch(() => undefined);
        throw error;
      }
      if (made !== undefined) await syncPath(root);
    },
    async remove(vmId) {
      await clear(vmId);
      await rm(dirOf(vmId), { recursive: true, force: true });
      await syncPath(root); // or the VM would be there again when the power comes back
    },
    async readAll() {
      await mkdir(root, { recursive: true, mode: 0o700 });
      const { strays, ...journals } = await readJournals(root);
      for (const name of strays) await rm(join(root, name), { recursive: true, force: true });
      return journals;
    },
  };
}

/** Changes nothing. `strays` are folders without a journal. */
export async function readJournals(root: string): Promise<Journals & { readonly strays: readonly string[] }> {
  const [entries, damaged, strays]: [JournalEntry[], DamagedJournal[], string[]] = [[], [], []];
  const names = await readdir(root).catch(ifMissing<string[]>([]));
  for (const vmId of names) {
    try {
      entries.push(decodeEntry(vmId, await readFile(join(root, vmId, fileName), "utf8")));
    } catch (error) {
      if (isMissing(error)) strays.push(vmId);
      else damaged.push({ vmId, error }); // with it there may be the VM's disk, and a VMM on that
    }
  }
  return { entries, damaged, strays };
}

function ifMissing<T>(otherwise: T): (error: unknown) => T {
  return (error) => {
    if (isMissing(error)) return otherwise;
    throw error;
  };
}
