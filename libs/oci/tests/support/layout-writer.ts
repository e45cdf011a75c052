// OCI image layouts for tests: layers given as tars.
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";

export type Compression = "none" | "gzip" | "zstd";

export interface WrittenLayer {
  readonly digest: string;
  readonly diffId: string;
  readonly mediaType: string;
  readonly stored: Buffer;
  readonly compression: Compression;
}

export const sha256 = (content: Buffer): string => `sha256:${createHash("sha256").update(content).digest("hex")}`;

const suffix = { none: "", gzip: "+gzip", zstd: "+zstd" } as const;

/** A tar as a stored layer. */
export function layerOf(tar: Buffer, compression: Compression): WrittenLayer {
  const stored = compression === "gzip" ? gzipSync(tar, { level: 1 }) : compression === "zstd" ? zstdCompressSync(tar) : tar;
  return {
    stored,
    compression,
    digest: sha256(stored),
    diffId: sha256(tar),
    mediaType: `application/vnd.oci.image.layer.v1.tar${suffix[compression]}`,
  };
}

export interface WrittenImage {
  readonly manifest: Buffer;
  readonly config: Buffer;
  readonly layers: readonly WrittenLayer[];
  /** Everything that is stored, by digest. */
  readonly blobs: ReadonlyMap<string, Buffer>;
}

export const manifestType = "application/vnd.oci.image.manifest.v1+json";

/** The documents of an image of these layers, lowest first. */
export function imageOf(layers: readonly WrittenLayer[]): WrittenImage {
  const config = Buffer.from(
    JSON.stringify({
      architecture: "amd64",
      os: "linux",
      config: { Cmd: ["/bin/true"] },
      rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: manifestType,
      config: { mediaType: "application/vnd.oci.image.config.v1+json", digest: sha256(config), size: config.length },
      layers: layers.map(({ mediaType, digest, stored }) => ({ mediaType, digest, size: stored.length })),
    }),
  );
  const blobs = new Map([config, manifest, ...layers.map(({ stored }) => stored)].map((content) => [sha256(content), content]));
  return { manifest, config, layers, blobs };
}

/** Writes the image as a layout with one tag. */
export async function writeLayout(dir: string, image: WrittenImage, tag = "test"): Promise<void> {
  const blobs = join(dir, "blobs", "sha256");
  await mkdir(blobs, { recursive: true });
  for (const [digest, content] of image.blobs) await writeFile(join(blobs, digest.slice("sha256:".length)), content);
  await writeFile(join(dir, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  const named = {
    mediaType: manifestType,
    digest: sha256(image.manifest),
    size: image.manifest.length,
    annotations: { "org.opencontainers.image.ref.name": tag },
  };
  await writeFile(join(dir, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [named] }));
}
