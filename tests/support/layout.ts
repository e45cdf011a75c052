// OCI layouts made by hand, right ones and wrong ones.
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { pack } from "tar-stream";

export interface LayoutOptions {
  readonly architecture?: string;
  readonly os?: string;
  /** Changes the layer's bytes after its digest was taken. */
  readonly damage?: (layer: Buffer) => Buffer;
}

/** Writes a one-layer image with one file; its reference. */
export async function writeLayout(
  dir: string,
  { architecture = "amd64", os = "linux", damage = (layer) => layer }: LayoutOptions = {},
): Promise<string> {
  const blobs = join(dir, "blobs", "sha256");
  await mkdir(blobs, { recursive: true });
  const put = async (
    mediaType: string,
    content: Buffer,
    stored = content,
  ): Promise<{ mediaType: string; digest: string; size: number }> => {
    const hex = createHash("sha256").update(content).digest("hex");
    await writeFile(join(blobs, hex), stored);
    return { mediaType, digest: `sha256:${hex}`, size: content.length };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const tar = pack();
  tar.entry({ name: "hello" }, "a file of ours, long enough to be damaged in the middle\n");
  tar.finalize();
  const layer = await buffer(tar);
  const layers = [await put("application/vnd.oci.image.layer.v1.tar", layer, damage(layer))];
  const diffId = layers[0]?.digest;
  const config = await put(
    "application/vnd.oci.image.config.v1+json",
    json({ architecture, os, config: {}, rootfs: { type: "layers", diff_ids: [diffId] } }),
  );
  const manifestType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = await put(manifestType, json({ schemaVersion: 2, mediaType: manifestType, config, layers }));
  await writeFile(join(dir, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  await writeFile(join(dir, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
  return `oci:${dir}`;
}
