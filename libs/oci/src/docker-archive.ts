// What `docker save` writes: one tar with a manifest.json, a configuration and layers.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { PassThrough, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import { digestOf, maxDocumentBytes, parseConfig, parseJson } from "./documents.ts";
import { digestMismatch, imageNotFound, malformed } from "./image-error.ts";
import type { LayerDescriptor, ResolvedImage } from "./image.ts";
import { readTar } from "./tar-reader.ts";

const manifest = z.array(z.object({ Config: z.string(), RepoTags: z.array(z.string()).nullish(), Layers: z.array(z.string()) }));

/** Layers are found by their digest again: `paths` maps it to the name in the tar. */
export interface ArchivedImage {
  readonly image: ResolvedImage;
  readonly paths: ReadonlyMap<string, string>;
}

/** Reads the archive twice: for its documents, then for the digests of its layers. */
export async function resolveArchive(
  file: string,
  reference: string,
  tag: string | undefined,
  digest: string | undefined,
): Promise<ArchivedImage> {
  const documents = await readDocuments(file, reference);
  const listed = documents.get("manifest.json");
  if (!listed) throw imageNotFound(reference, "the file is no docker archive: it has no manifest.json");
  const entries = parseJson(manifest, listed, "archive's manifest.json");
  const named =
    tag === undefined ? entries : entries.filter(({ RepoTags }) => RepoTags?.some((name) => name === tag || name.endsWith(`/${tag}`)));
  const [entry, ...more] = named;
  if (!entry || more.length > 0) {
    throw imageNotFound(
      reference,
      `the archive holds ${entries.flatMap(({ RepoTags }) => RepoTags ?? []).join(", ") || "unnamed images"}: name one after a colon`,
    );
  }
  const document = documents.get(entry.Config);
  if (!document) throw malformed("the archive lacks the image's configuration");
  const configDigest = digestOf(document);
  if (digest !== undefined && digest !== configDigest) throw digestMismatch("the archived image", digest, configDigest);
  const { imageConfig, diffIds } = parseConfig(reference, document);
  if (diffIds.length !== entry.Layers.length) throw malformed(`the image has ${entry.Layers.length} layers and ${diffIds.length} diff ids`);
  const found = await hashLayers(file, new Set(entry.Layers));
  const paths = new Map<string, string>();
  const layers = entry.Layers.map((path, at) => {
    const layer = found.get(path);
    if (!layer) throw malformed("the archive lacks a layer");
    paths.set(layer.digest, path);
    return { ...layer, diffId: diffIds[at] ?? "" };
  });
  const sizeBytes = layers.reduce((sum, layer) => sum + layer.sizeBytes, 0);
  return { image: { reference, digest: configDigest, sizeBytes, config: imageConfig, layers }, paths };
}

/** The bytes of one layer. */
export function openArchiveLayer(file: string, path: string): Readable {
  const output = new PassThrough();
  const copy = async (): Promise<void> => {
    for await (const { entry, body } of entries(file)) {
      if (cleanName(entry.name) !== path || entry.type !== "file") continue;
      await pipeline(body, output);
      return;
    }
    throw malformed("the archive lacks a layer");
  };
  copy().catch((error: unknown) => output.destroy(error instanceof Error ? error : new Error(String(error))));
  return output;
}

async function readDocuments(file: string, reference: string): Promise<Map<string, Buffer>> {
  const documents = new Map<string, Buffer>();
  let total = 0;
  for await (const { entry, body } of entries(file, reference)) {
    const name = cleanName(entry.name);
    // A configuration is `HEX.json`, or a blob without an ending in newer archives: all that is small enough is kept.
    if (entry.type !== "file" || entry.size > maxDocumentBytes || (total += entry.size) > 16 * maxDocumentBytes) continue;
    const parts: Buffer[] = [];
    for await (const chunk of body()) parts.push(chunk);
    documents.set(name, Buffer.concat(parts));
  }
  return documents;
}

async function hashLayers(file: string, wanted: ReadonlySet<string>): Promise<Map<string, Omit<LayerDescriptor, "diffId">>> {
  const found = new Map<string, Omit<LayerDescriptor, "diffId">>();
  for await (const { entry, body } of entries(file)) {
    const name = cleanName(entry.name);
    if (!wanted.has(name) || entry.type !== "file") continue;
    const hash = createHash("sha256");
    let head = Buffer.alloc(0);
    for await (const chunk of body()) {
      if (head.length < 4) head = Buffer.concat([head, chunk.subarray(0, 4)]);
      hash.update(chunk);
    }
    found.set(name, { digest: `sha256:${hash.digest("hex")}`, sizeBytes: entry.size, compression: compressionOf(head) });
  }
  return found;
}

function compressionOf(head: Buffer): LayerDescriptor["compression"] {
  if (head[0] === 0x1f && head[1] === 0x8b) return "gzip";
  return head.length >= 4 && head.readUInt32LE(0) === 0xfd2fb528 ? "zstd" : "none";
}

const cleanName = (latin1: string): string =>
  Buffer.from(latin1, "latin1")
    .toString("utf8")
    .replace(/^(?:\.?\/)+/, "");

async function* entries(file: string, reference = ""): ReturnType<typeof readTar> {
  const source = createReadStream(file, { highWaterMark: 256 * 1024 });
  try {
    yield* readTar(source as AsyncIterable<Buffer>); // no encoding is set, so chunks are buffers
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "EISDIR"))
      throw imageNotFound(reference, "there is no such file");
    throw error;
  } finally {
    source.destroy();
  }
}
