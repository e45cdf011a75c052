// Writes the one read-only file system that all VMs of an image boot from, with tar2sqfs.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { rename, rm } from "node:fs/promises";
import { PitwallError } from "@pitwall/runtime";
import { diskFull } from "./layer-file.ts";
import { sinkOf, TarOutput } from "./tar-output.ts";

// The fastest that packs well. lz4 would be a little faster, but tar2sqfs 1.2 stores its tables longer than they are, which the kernel takes
// and unsquashfs does not.
const options = ["--quiet", "--force", "--no-skip", "--compressor", "zstd", "--comp-extra", "level=1", "--defaults", "mtime=0"];

/**
 * Writes `path` from the tar that `write` puts out, whole or not at all; equal tars make equal files. It is not synced. What a killed
 * process leaves ends with `.tmp`.
 * Throws what `write` throws, `exhausted` (DISK_FULL), `unsupported` (no tar2sqfs), `internal` with what tar2sqfs said.
 */
export async function writeSquashfs(write: (output: TarOutput) => Promise<void>, path: string, signal: AbortSignal): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  const packer = spawn("tar2sqfs", [...options, temporary], { stdio: ["pipe", "ignore", "pipe"] });
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
    if (code.value !== null && code.value !== 0) throw packerError(undefined, said);
    if (piped.status === "rejected") throw piped.reason;
    if (code.value === null) throw packerError(undefined, "tar2sqfs was killed");
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
  if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
    return new PitwallError("unsupported", "tar2sqfs is missing: install the Debian package squashfs-tools-ng", { cause });
  }
  if (/No space left/.test(said)) return diskFull(cause);
  return new PitwallError("internal", `the image could not be converted: ${said.trim()}`, { reason: "IMAGE_CONVERSION_FAILED", cause });
}
