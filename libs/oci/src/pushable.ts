// A local image as a registry wants it: blobs, and the manifest that names them.
import { stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { z } from "zod";
import { ArchiveFile } from "./archive-file.ts";
import { resolveDockerArchive } from "./docker-archive.ts";
import { digestOf, parseJson, verify } from "./documents.ts";
import { imageNotFound } from "./image-error.ts";
import { blobName, layoutInArchive, layoutInFolder, resolveLayout, type LayoutFiles } from "./layout.ts";

const ociManifest = "application/vnd.oci.image.manifest.v1+json";
const ociConfig = "application/vnd.oci.image.config.v1+json";
const ociLayer = "application/vnd.oci.image.layer.v1.tar";
const named = z.object({ digest: z.string(), size: z.int().nonnegative() });
const manifestDocument = z.object({ mediaType: z.string().default(ociManifest), config: named, layers: z.array(named) });

export interface PushableBlob {
  readonly digest: string;
  readonly sizeBytes: number;
  /** Its bytes, not verified. */
  open(): Promise<Readable>;
}

export interface Pushable {
  readonly manifest: Buffer;
  readonly mediaType: string;
  readonly digest: string;
  /** Each once. */
  readonly blobs: readonly PushableBlob[];
}

/** The linux/amd64 image at `path`: a layout's folder, or a tar of a layout or of `docker save`. Throws as resolving it does. */
export async function openPushable(path: string, tag: string | undefined): Promise<Pushable> {
  const found = await stat(path).catch(() => undefined);
  if (!found) throw imageNotFound(path, "there is no such path");
  if (found.isDirectory()) return fromLayout(layoutInFolder(path), path, tag);
  const archive = await ArchiveFile.open(path, path);
  return archive.sizeOf("oci-layout") === undefined
    ? fromDockerArchive(archive, path, tag)
    : fromLayout(layoutInArchive(archive), path, tag);
}

async function fromLayout(files: LayoutFiles, path: string, tag: string | undefined): Promise<Pushable> {
  const { digest } = await resolveLayout(files, path, tag, undefined);
  const manifest = verify(await files.document(blobName(digest), path), { digest }, "the image's manifest");
  const { mediaType, config, layers } = parseJson(manifestDocument, manifest, "image manifest");
  const blobs = [config, ...layers].map(({ digest: of, size }) => ({
    digest: of,
    sizeBytes: size,
    open: () => files.stream(blobName(of), path),
  }));
  return { manifest, mediaType, digest, blobs: once(blobs) };
}

async function fromDockerArchive(archive: ArchiveFile, path: string, tag: string | undefined): Promise<Pushable> {
  const { image, paths, configuration } = await resolveDockerArchive(archive, path, tag, undefined);
  const config = { mediaType: ociConfig, digest: digestOf(configuration), size: configuration.length };
  const layers = image.layers.map(({ digest, sizeBytes, compression }) => ({
    mediaType: compression === "none" ? ociLayer : `${ociLayer}+${compression}`,
    digest,
    size: sizeBytes,
  }));
  const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: ociManifest, config, layers }));
  const blobs = [
    { digest: config.digest, sizeBytes: config.size, open: async () => Readable.from([configuration]) },
    ...image.layers.map(({ digest, sizeBytes }) => ({ digest, sizeBytes, open: async () => archive.stream(paths.get(digest) ?? "") })),
  ];
  return { manifest, mediaType: ociManifest, digest: digestOf(manifest), blobs: once(blobs) };
}

function once(blobs: readonly PushableBlob[]): PushableBlob[] {
  return [...new Map(blobs.map((blob) => [blob.digest, blob])).values()];
}
