// Journals on disk: `ROOT/UUID/vm.json`, beside it what else the VM has.
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { isMissing, syncPath, writeFileAtomic } from "@pitwall/runtime";
import { decodeEntry, encodeEntry, type JournalStore } from "../machine/journal.ts";

const fileName = "vm.json";

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
      const found = [];
      for (const name of await readdir(root)) {
        const text = await readFile(join(root, name, fileName), "utf8").catch((error: unknown) => {
          if (isMissing(error)) return undefined;
          throw error; // it may be there, and with it a VM's disk
        });
        if (text === undefined) await rm(join(root, name), { recursive: true, force: true });
        else found.push(decodeEntry(text));
      }
      return found;
    },
  };
}
