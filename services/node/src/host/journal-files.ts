// Journals on disk: `ROOT/UUID/vm.json`, beside it what else the VM has.
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { isMissing, syncPath, writeFileAtomic } from "@pitwall/runtime";
import { decodeEntry, encodeEntry, type JournalEntry, type JournalStore } from "../machine/journal.ts";

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
      const { entries, strays } = await readJournals(root);
      for (const name of strays) await rm(join(root, name), { recursive: true, force: true });
      return entries;
    },
  };
}

/** Changes nothing. `strays` are folders without a journal. */
export async function readJournals(
  root: string,
): Promise<{ readonly entries: readonly JournalEntry[]; readonly strays: readonly string[] }> {
  const [entries, strays]: [JournalEntry[], string[]] = [[], []];
  const names = await readdir(root).catch(ifMissing<string[]>([]));
  for (const name of names) {
    // Any other failure: it may be there, and with it a VM's disk.
    const text = await readFile(join(root, name, fileName), "utf8").catch(ifMissing(undefined));
    if (text === undefined) strays.push(name);
    else entries.push(decodeEntry(text));
  }
  return { entries, strays };
}

function ifMissing<T>(otherwise: T): (error: unknown) => T {
  return (error) => {
    if (isMissing(error)) return otherwise;
    throw error;
  };
}
