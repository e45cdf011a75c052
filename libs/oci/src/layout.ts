// OCI image layouts (image-spec, image-layout.md): an index.json and blobs, in a folder or in a tar.
import { join } from "node:path";
import type { Readable } from "node:stream";
import { openRegular, type ArchiveFile } from "./archive-file.ts";
import { digestOf, maxDocumentBytes, parseIndex, toImage, verify, type Descriptor } from "./documents.ts";
import { imageNotFound, malformed } from "./image-error.ts";
import type { LayerDescriptor, ResolvedImage } from "./image.ts";

const refName = "org.opencontainers.image.ref.name";
/** The only document of a layout that is not named by its content. */
export const indexName = "index.json";

/** Where the files of a layout are. Names are relative to it, with `/`. */
export interface LayoutFiles {
  /** A document, whole. Throws `not-found`, and `corrupt` when it is too large. */
  document(name: string, reference: string): Promise<Buffer>;
  stream(name: string, reference: string): Promise<Readable>;
}

export function layoutInFolder(dir: string): LayoutFiles {
  return {
    async document(name, reference) {
      const file = await openRegular(join(dir, name), reference);
      try {
        const { size } = await file.stat();
        if (size > maxDocumentBytes) throw malformed(`an image document has ${size} bytes; the limit is ${maxDocumentBytes}`);
        return await file.readFile();
      } finally {
        await file.close();
      }
    },
    stream: async (name, reference) => (await openRegular(join(dir, name), reference)).createReadStream({ highWaterMark: 64 * 1024 }),
  };
}

export function layoutInArchive(archive: ArchiveFile): LayoutFiles {
  return {
    async document(name, reference) {
      const found = await archive.document(name);
      if (!found) throw imageNotFound(reference, "the file is no OCI archive, or lacks a document of the image");
      return found;
    },
    stream: async (name) => archive.stream(name),
  };
}

/** `tag` is matched with the name annotation; without one a layout must hold a single image. */
export async function resolveLayout(
  files: LayoutFiles,
  reference: string,
  tag: string | undefined,
  digest: string | undefined,
): Promise<ResolvedImage> {
  const read = ({ digest: wanted }: Descriptor): Promise<Buffer> => files.document(blobName(wanted), reference);
  if (digest !== undefined) {
    const content = verify(await files.document(blobName(digest), reference), { digest }, "the image's manifest");
    return toImage(reference, content, digest, read);
  }
  const entries = parseIndex(await files.document(indexName, reference));
  const named = tag === undefined ? entries : entries.filter(({ annotations }) => annotations?.[refName] === tag);
  const [only, ...more] = named;
  const names = entries.map(({ annotations }) => annotations?.[refName] ?? "(unnamed)").join(", ");
  if (!only || more.length > 0) throw imageNotFound(reference, `the layout holds ${names || "no image"}: name one after a colon`);
  const content = verify(await read(only), only, "the image's manifest");
  return toImage(reference, content, digestOf(content), read, only.mediaType);
}

export function openLayoutBlob(files: LayoutFiles, { digest }: LayerDescriptor, reference: string): Promise<Readable> {
  return files.stream(blobName(digest), reference);
}

export function blobName(digest: string): string {
  const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
  if (hex === undefined) throw malformed("a digest is not of sha256");
  return `blobs/sha256/${hex}`;
}
