// A VM's writable disk: a sparse ext4 file, copied from a template of the same size so that it costs milliseconds.
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { exists, PitwallError } from "@pitwall/runtime";

const run = promisify(execFile);

/**
 * The disk at `path`: the one that is there, or an empty ext4 of `bytes`. With `isNew`, what is there is nobody's and goes first.
 * Throws `exhausted` when the host's disk is full.
 */
export async function provideDisk(path: string, bytes: number, cacheDir: string, isNew: boolean): Promise<void> {
  if (isNew) await rm(path, { force: true });
  if (await exists(path)) return;
  const template = join(cacheDir, `disk-${bytes}.ext4`);
  if (!(await exists(template))) await makeTemplate(template, bytes);
  try {
    await run("cp", ["--reflink=auto", "--sparse=always", template, path]);
  } catch (error) {
    await rm(path, { force: true });
    throw diskError(error);
  }
}

async function makeTemplate(template: string, bytes: number): Promise<void> {
  await mkdir(join(template, ".."), { recursive: true });
  // The first VMs of a node may be prepared side by side: each makes its own, and the last one stays.
  const temporary = `${template}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    const file = await open(temporary, "w", 0o600);
    await file.truncate(bytes);
    await file.close();
    // Lazily initialised tables keep it sparse; no reserved blocks: the guest's root owns all of it.
    await run("mke2fs", [
      "-q",
      "-F",
      "-t",
      "ext4",
      "-m",
      "0",
      "-L",
      "pitwall",
      "-E",
      "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
      temporary,
    ]);
    await rename(temporary, template);
  } catch (error) {
    await rm(temporary, { force: true });
    throw diskError(error);
  }
}

function diskError(error: unknown): PitwallError {
  const text = error instanceof Error ? `${error.message} ${"stderr" in error ? String(error.stderr) : ""}` : String(error);
  if (/ENOENT/.test(text) && /mke2fs/.test(text)) {
    return new PitwallError("unsupported", "mke2fs is missing: install the Debian package e2fsprogs", { cause: error });
  }
  if (/ENOSPC|No space left/.test(text)) {
    return new PitwallError("exhausted", "the node's disk is full: free some space or use another node", {
      reason: "DISK_FULL",
      cause: error,
    });
  }
  return new PitwallError("internal", "the VM's disk could not be made", { cause: error });
}
