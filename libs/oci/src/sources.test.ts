import { mkdtemp, rm, utimes, writeFile, mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createHash } from "node:crypto";
import { systemClock } from "@pitwall/runtime";
import { expect, onTestFinished, test } from "vitest";
import { openImageSources } from "./sources.ts";

const never = new AbortController().signal;

/** An image without layers; its digest tells images apart. */
async function writeImage(dir: string, author: string): Promise<void> {
  const blobs = join(dir, "blobs", "sha256");
  await mkdir(blobs, { recursive: true });
  const blob = async (content: object, mediaType: string): Promise<object> => {
    const text = JSON.stringify(content);
    const hex = createHash("sha256").update(text).digest("hex");
    await writeFile(join(blobs, hex), text);
    return { mediaType, digest: `sha256:${hex}`, size: text.length };
  };
  const type = (of: string): string => `application/vnd.oci.image.${of}.v1+json`;
  const config = await blob(
    { author, architecture: "amd64", os: "linux", config: {}, rootfs: { type: "layers", diff_ids: [] } },
    type("config"),
  );
  const manifest = await blob({ schemaVersion: 2, mediaType: type("manifest"), config, layers: [] }, type("manifest"));
  await writeFile(join(dir, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
}

test("a folder's image is what its index says now, read again or remembered", async () => {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-sources-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  let aheadMs = 0;
  const clock = { ...systemClock, wallMs: () => Date.now() + aheadMs };
  const sources = openImageSources({ imageRoots: [dir], insecureRegistries: [], clock });
  const resolve = async (): Promise<string> => (await sources.resolve(`oci:${dir}`, never)).digest;
  await writeImage(dir, "one");
  const one = await resolve();
  await writeImage(dir, "two"); // of the same size, and maybe at the same moment
  const two = await resolve();
  expect(two).not.toBe(one);
  aheadMs = 60_000;
  expect([await resolve(), await resolve()]).toEqual([two, two]);
  await writeImage(dir, "six");
  await utimes(join(dir, "index.json"), 1, 1);
  expect(await resolve()).not.toBe(two);
  await rm(join(dir, "index.json"));
  await expect(resolve()).rejects.toMatchObject({ fault: "not-found" });
});
