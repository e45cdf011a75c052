// The kernel that guests are booted with.
import type { Stats } from "node:fs";
import { stat } from "node:fs/promises";
import { PitwallError } from "@pitwall/runtime";

/** Throws `unsupported` with the remedy when it cannot be read. */
export async function statKernel(path: string): Promise<Stats> {
  return stat(path).catch((cause: unknown) => {
    throw new PitwallError("unsupported", "the guest kernel cannot be read: name an uncompressed kernel (vmlinux) in PITWALL_KERNEL", {
      cause,
    });
  });
}
