// Writes the one read-only file system that all VMs of an image boot from, with tar2sqfs.
import { spawn, type ChildProcessByStdio } from "node:child_process";
import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { getgid, getuid } from "node:process";
import type { Readable, Writable } from "node:stream";
import { isMissing, PitwallError } from "@pitwall/runtime";
import { packerMissing, type Confinement } from "./confinement.ts";
import { diskFull, isFull, orDiskFull } from "./disk-full.ts";
import { sinkOf, TarOutput } from "./tar-output.ts";

// The quickest of those that a guest's kernel reads (docs/decisions/0007-bases-packed-with-lz4.md). The same tar makes the same file.
const options = ["--quiet", "--force", "--no-skip", "--compressor", "lz4", "--defaults", "mtime=0"];

/**
 * Writes `path` from the tar that `write` puts out, whole or not at all; equal tars make equal files. It is not synced. What a killed
 * process leaves ends with `.tmp`. `onWritten` is called when it is whole and has not yet got its name.
 * Throws what `write` throws, `exhausted` (DISK_FULL), `unsupported` (no tar2sqfs), `internal` with what tar2sqfs said.
 */
export async function writeSquashfs(
  write: (output: TarOutput) => Promise<void>,
  path: string,
  { owner, output, prefix }: Confinement,
  signal: AbortSignal,
  onWritten?: () => Promise<void>,
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  await using file = await open(temporary, "wx", 0o600).catch((error: unknown) => {
    throw orDiskFull(error);
  });
  if (owner !== undefined) await file.chown(owner, owner);
  const [program, ...args] = [...prefix, "tar2sqfs", ...options, output];
  const child = spawn(program, args, { stdio: ["pipe", "ignore", "pipe", file.fd] });
  const packer = child as ChildProcessByStdio<Writable, null, Readable>; // as asked for; a fourth descriptor hides it from the types
  let said = "";
  packer.stderr.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-1024);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    packer.once("close", resolve);
    packer.once("error", reject);
  });
  ended.catch(() => undefined); // looked at below
  packer.stdin.on("error", () => undefined); // told to who writes
  const stop = (): void => void packer.kill("SIGKILL");
  signal.addEventListener("abort", stop, { once: true });
  try {
    const written = write(new TarOutput(sinkOf(packer.stdin))).then(
      () => void packer.stdin.end(),
      (error: unknown) => {
        packer.kill("SIGKILL");
        throw error;
      },
    );
    const [piped, code] = await Promise.allSettled([written, ended]);
    if (code.status === "rejected") throw packerError(code.reason, said);
    // When the packer fails first, the pipe breaks: its own words say more.
    if (code.value !== null && code.value !== 0) {
      const told = new Error(said.trim());
      // Of some writes tar2sqfs forgets why they failed.
      throw said.includes("I/O error") && (await isFull(temporary)) ? diskFull(told) : packerError(told, said);
    }
    if (piped.status === "rejected") throw piped.reason;
    if (code.value === null) throw packerError(undefined, "tar2sqfs was killed");
    if (owner !== undefined) await file.chown(getuid?.() ?? 0, getgid?.() ?? 0);
    await file.chmod(0o644);
    await onWritten?.();
    await rename(temporary, path);
  } catch (error) {
    packer.kill("SIGKILL");
    await rm(temporary, { force: true });
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function packerError(cause: unknown, said: string): PitwallError {
  if (isMissing(cause)) {
    return packerMissing(cause);
  }
  if (/No space left/.test(said)) return diskFull(cause);
  return new PitwallError("internal", `the image could not be converted: ${said.trim()}`, { reason: "IMAGE_CONVERSION_FAILED", cause });
}
