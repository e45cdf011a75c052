// OCI image layouts: folders with an index.json (image-spec, image-layout.md).
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { digestOf, maxDocumentBytes, parseIndex, toImage, verify, type Descriptor } from "./documents.ts";
import { imageNotFound, malformed } from "./image-error.ts";
import type { LayerDescriptor, ResolvedImage } from "./image.ts";

const refName = "org.opencontainers.image.ref.name";

/** `tag` is matched with the name annotation; without one a layout must hold a single image. */
export async function resolveLayout(
  dir: string,
  reference: string,
  tag: string | undefined,
  digest: string | undefined,
): Promise<ResolvedImage> {
  const read = ({ digest: wanted }: Descriptor): Promise<Buffer> => readDocument(blobPath(dir, wanted), reference);
  const entries = parseIndex(await readDocument(join(dir, "index.json"), reference));
  if (digest !== undefined) {
    const content = verify(await readDocument(blobPath(dir, digest), reference), digest, "the image's manifest");
    return toImage(reference, content, digest, read);
  }
  const named = tag === undefined ? entries : entries.filter(({ annotations }) => annotations?.[refName] === tag);
  const [only, ...more] = named;
  const names = entries.map(({ annotations }) => annotations?.[refName] ?? "(unnamed)").join(", ");
  if (!only || more.length > 0) throw imageNotFound(reference, `the layout holds ${names || "no image"}: name one after a colon`);
  const content = verify(await read(only), only.digest, "the image's manifest");
  return toImage(reference, content, digestOf(content), read);
}

export function openLayoutBlob(dir: string, { digest }: LayerDescriptor): Readable {
  return createReadStream(blobPath(dir, digest));
}

function blobPath(dir: string, digest: string): string {
  const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
  if (hex === undefined) throw malformed("a digest is not of sha256");
  return join(dir, "blobs", "sha256", hex);
}

async function readDocument(path: string, reference: string): Promise<Buffer> {
  const file = await open(path, "r").catch(() => undefined);
  if (!file) throw imageNotFound(reference, "the folder is no OCI layout, or lacks a document of the image");
  try {
    const { size } = await file.stat();
    if (size > maxDocumentBytes) throw malformed(`an image document has ${size} bytes; the limit is ${maxDocumentBytes}`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}
