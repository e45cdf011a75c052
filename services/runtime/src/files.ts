// Files: whether one is there, and ones that survive a crash, whole or not at all.
import { randomBytes } from "node:crypto";
import { copyFile, link, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { planted } from "./planted.ts";

/** Replaces `path` by write, fsync, rename, fsync of the folder. `mode` defaults to 0600. */
export async function writeFileAtomic(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString("hex")}.tmp`; // two writers of one path must not share it
  try {
    const file = await open(temporary, "wx", mode);
    try {
      await file.writeFile(content);
      if (!planted("no-fsync")) await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncPath(dirname(path));
}

/** A copy at `to`, whole and on disk, or none: by its name it may be believed. The folder is there. */
export async function copyFileAtomic(from: string, to: string): Promise<void> {
  const temporary = `${to}.${randomBytes(4).toString("hex")}.tmp`;
  try {
    await copyFile(from, temporary);
    await syncPath(temporary);
    await rename(temporary, to);
  } finally {
    await rm(temporary, { force: true });
  }
  await syncPath(dirname(to));
}

/** The text of a file; `make` gives it when there is none. Of several that make it at once, one wins, and all read that. Mode 0600. */
export async function readOrMake(path: string, make: () => string | Buffer): Promise<string> {
  const known = await readFile(path, "utf8").catch((error: unknown) => {
    if (!isMissing(error)) throw error;
    return undefined;
  });
  if (known !== undefined) return known;
  const made = `${path}.${randomBytes(4).toString("hex")}.made`;
  try {
    await writeFileAtomic(made, make());
    await link(made, path).catch((error: unknown) => {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    });
    await syncPath(dirname(path));
  } finally {
    await rm(made, { force: true });
  }
  return readFile(path, "utf8");
}

/** Whether an error says that there is no such file. */
export function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

/** Resolves when what was written to a file, or the names in a folder, are on disk. */
export async function syncPath(path: string): Promise<void> {
  const opened = await open(path, "r");
  try {
    await opened.sync();
  } finally {
    await opened.close();
  }
}

/** Whether anything is at `path` that this process may see. */
export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
