// Files that survive a crash: whole or not at all.
import { open, rename } from "node:fs/promises";
import { dirname } from "node:path";

/** Replaces `path` by write, fsync, rename, fsync of the folder. `mode` defaults to 0600. */
export async function writeFileAtomic(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.tmp`;
  const file = await open(temporary, "w", mode);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const folder = await open(dirname(path), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
