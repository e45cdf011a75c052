// The refusal when a disk has no room, and how its errors are told from others.
import { statfs } from "node:fs/promises";
import { PitwallError } from "@pitwall/runtime";

/** With less than this a disk counts as full: file systems keep the last blocks to themselves. */
const leastBytes = 2 ** 20;

export function diskFull(cause?: unknown): PitwallError {
  return new PitwallError("exhausted", "the node's disk is full: free some space or use another node", { reason: "DISK_FULL", cause });
}

/** The refusal for errors of a file system without room or files left, or of a quota; others as they are. */
export function orDiskFull(error: unknown): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "ENOSPC" || code === "EDQUOT" ? diskFull(error) : error;
}

/** Whether the disk of `path` has no room to speak of. */
export async function isFull(path: string): Promise<boolean> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize < leastBytes;
}
