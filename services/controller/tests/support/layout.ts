// An image that controllers can resolve; nothing here unpacks it.
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** Writes a layout with one image; its reference. */
export async function writeLayout(dir: string, cmd: readonly string[] = ["/bin/true"]): Promise<string> {
  const blobs = join(dir, "blobs", "sha256");
  await mkdir(blobs, { recursive: true });
  const put = async (mediaType: string, content: Buffer): Promise<{ mediaType: string; digest: string; size: number }> => {
    const hex = createHash("sha256").update(content).digest("hex");
    await writeFile(join(blobs, hex), content);
    return { mediaType, digest: `sha256:${hex}`, size: content.length };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const layer = await put("application/vnd.oci.image.layer.v1.tar", Buffer.alloc(1024)); // an empty tar
  const rootfs = { type: "layers", diff_ids: [layer.digest] };
  const config = await put(
    "application/vnd.oci.image.config.v1+json",
    json({ architecture: "amd64", os: "linux", config: { Cmd: cmd }, rootfs }),
  );
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = await put(mediaType, json({ schemaVersion: 2, mediaType, config, layers: [layer] }));
  await writeFile(join(dir, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  await writeFile(join(dir, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
  return `oci:${dir}`;
}
