// Brings one layer to disk: whole and verified, or not at all.
import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { PitwallError } from "@pitwall/runtime";
import { digestMismatch, malformed, truncated } from "./image-error.ts";
import type { ImageSources, LayerDescriptor, ResolvedImage } from "./image.ts";

/**
 * The layer's file below `blobDir`, `sha256/HEX`; one that is there is used. Throws `corrupt` (IMAGE_DIGEST_MISMATCH, IMAGE_TRUNCATED),
 * `exhausted` (DISK_FULL), and what the source throws.
 */
export async function pullLayer(
  sources: ImageSources,
  reference: string,
  image: ResolvedImage,
  layer: LayerDescriptor,
  blobDir: string,
  signal: AbortSignal,
): Promise<{ path: string; downloaded: boolean }> {
  const hex = /^sha256:([0-9a-f]{64})$/.exec(layer.digest)?.[1];
  if (hex === undefined) throw malformed("a layer's digest is not of sha256");
  const path = join(blobDir, "sha256", hex);
  const present = await stat(path).catch(() => undefined);
  if (present?.size === layer.sizeBytes) return { path, downloaded: false };
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await write(await sources.openBlob(reference, image, layer, signal), layer, temporary, signal);
    await rename(temporary, path);
    return { path, downloaded: true };
  } catch (error) {
    await rm(temporary, { force: true });
    if (error instanceof Error && "code" in error && error.code === "ENOSPC") {
      throw new PitwallError("exhausted", "the node's disk is full: free some space or use another node", {
        reason: "DISK_FULL",
        cause: error,
      });
    }
    signal.throwIfAborted();
    if (error instanceof PitwallError) throw error;
    if (error instanceof Error && "code" in error && error.code === "ENOENT")
      throw truncated(`layer ${layer.digest} is missing and the image`, error);
    throw new PitwallError("unavailable", `layer ${layer.digest} could not be read to its end`, {
      reason: "REGISTRY_UNREACHABLE",
      cause: error,
    });
  }
}

async function write(source: AsyncIterable<Buffer>, layer: LayerDescriptor, path: string, signal: AbortSignal): Promise<void> {
  const hash = createHash("sha256");
  let size = 0;
  const file = await open(path, "wx", 0o600);
  try {
    for await (const chunk of source) {
      signal.throwIfAborted();
      size += chunk.length;
      if (size > layer.sizeBytes) throw digestMismatch(`layer (longer than its ${layer.sizeBytes} bytes)`, layer.digest, "another");
      hash.update(chunk);
      await file.writeFile(chunk);
    }
    if (size < layer.sizeBytes) throw truncated(`layer ${layer.digest} (${size} of ${layer.sizeBytes} bytes)`);
    const got = `sha256:${hash.digest("hex")}`;
    if (got !== layer.digest) throw digestMismatch("a layer", layer.digest, got);
    await file.sync();
  } finally {
    await file.close();
  }
}
