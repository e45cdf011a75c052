// What `docker save` writes: one tar with a manifest.json, a configuration and layers, in the folders of any of its versions.
import { createHash } from "node:crypto";
import { z } from "zod";
import type { ArchiveFile } from "./archive-file.ts";
import { digestOf, parseConfig, parseJson } from "./documents.ts";
import { digestMismatch, imageNotFound, malformed } from "./image-error.ts";
import type { LayerDescriptor, ResolvedImage } from "./image.ts";

const manifest = z.array(z.object({ Config: z.string(), RepoTags: z.array(z.string()).nullish(), Layers: z.array(z.string()).max(127) }));

/** Layers are found by their digest again: `paths` maps it to the name in the tar. */
export interface ArchivedImage {
  readonly image: ResolvedImage;
  readonly paths: ReadonlyMap<string, string>;
  /** The document, as the archive has it. */
  readonly configuration: Buffer;
}

/** The image that `tag` names among `RepoTags`, or the only one; `digest`, where given, is that of its configuration. */
export async function resolveDockerArchive(
  archive: ArchiveFile,
  reference: string,
  tag: string | undefined,
  digest: string | undefined,
): Promise<ArchivedImage> {
  const listed = await archive.document("manifest.json");
  if (!listed) throw imageNotFound(reference, "the file is no docker archive: it has no manifest.json");
  const entries = parseJson(manifest, listed, "archive's manifest.json");
  const named =
    tag === undefined ? entries : entries.filter(({ RepoTags }) => RepoTags?.some((name) => name === tag || name.endsWith(`/${tag}`)));
  const [entry, ...more] = named;
  if (!entry || more.length > 0) {
    const names = entries.flatMap(({ RepoTags }) => RepoTags ?? []).join(", ");
    throw imageNotFound(reference, `the archive holds ${names || "unnamed images"}: name one after a colon`);
  }
  const document = await archive.document(entry.Config);
  if (!document) throw malformed("the archive lacks the image's configuration");
  const configDigest = digestOf(document);
  if (digest !== undefined && digest !== configDigest) throw digestMismatch("the archived image", digest, configDigest);
  const { imageConfig, diffIds } = parseConfig(reference, document);
  if (diffIds.length !== entry.Layers.length) throw malformed(`the image has ${entry.Layers.length} layers and ${diffIds.length} diff ids`);
  const paths = new Map<string, string>();
  const layers: LayerDescriptor[] = [];
  for (const [at, path] of entry.Layers.entries()) {
    const layer = await describeLayer(archive, path, diffIds[at] ?? "");
    paths.set(layer.digest, path);
    layers.push(layer);
  }
  const sizeBytes = layers.reduce((sum, layer) => sum + layer.sizeBytes, 0);
  return { image: { reference, digest: configDigest, sizeBytes, config: imageConfig, layers }, paths, configuration: document };
}

/** The digest of a plain layer is its diff id, a blob's is its name; both are verified when the layer is read. Others are hashed. */
async function describeLayer(archive: ArchiveFile, path: string, diffId: string): Promise<LayerDescriptor> {
  const sizeBytes = archive.sizeOf(path);
  if (sizeBytes === undefined) throw malformed("the archive lacks a layer");
  const compression = await archive.compressionOf(path);
  const hex = /^blobs\/sha256\/([0-9a-f]{64})$/.exec(path)?.[1];
  if (hex !== undefined) return { digest: `sha256:${hex}`, diffId, sizeBytes, compression };
  if (compression === "none") return { digest: diffId, diffId, sizeBytes, compression };
  const hash = createHash("sha256");
  for await (const chunk of archive.stream(path)) hash.update(chunk as Buffer); // no encoding is set
  return { digest: `sha256:${hash.digest("hex")}`, diffId, sizeBytes, compression };
}
