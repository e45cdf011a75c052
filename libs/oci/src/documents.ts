// The JSON documents of images, OCI image-spec 1.1 and Docker schema 2: what is read of them, and no more.
import { createHash } from "node:crypto";
import { PitwallError } from "@pitwall/runtime";
import { z } from "zod";
import { digestMismatch, malformed, unsupported } from "./image-error.ts";
import { configDocument, digest, toImageConfig } from "./image-config.ts";
import type { ImageConfig, LayerDescriptor, ResolvedImage } from "./image.ts";

export const maxDocumentBytes = 4 * 2 ** 20;

const size = z.int().nonnegative();
const platform = z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() });
const annotations = z.record(z.string(), z.string()).optional();
const descriptor = z.object({ mediaType: z.string().default(""), digest, size, platform: platform.optional(), annotations });
export type Descriptor = z.output<typeof descriptor>;

const index = z.object({ manifests: z.array(descriptor).max(1024) });
const manifest = z.object({ config: descriptor, layers: z.array(descriptor) });

const imageManifest = /^application\/vnd\.(?:oci\.image\.manifest\.v1|docker\.distribution\.manifest\.v2)\+json$/;
const imageIndex = /^application\/vnd\.(?:oci\.image\.index\.v1|docker\.distribution\.manifest\.list\.v2)\+json$/;
const imageConfigType = /^application\/vnd\.(?:oci\.image\.config|docker\.container\.image)\.v1\+json$/;
const layerType = /^application\/vnd\.(?:oci\.image\.layer\.v1\.tar|docker\.image\.rootfs\.diff\.tar)(?:[.+](gzip|zstd))?$/;
/** As overlay file systems and other runtimes have it. */
const maxLayers = 127;
const maxIndexDepth = 4;
export const acceptedManifests = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

/** Reads a document that is named by a digest. Throws `corrupt`. */
export type ReadDocument = (descriptor: Descriptor) => Promise<Buffer>;

export function digestOf(content: Buffer): string {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

/** Throws `corrupt` unless the content has the digest and, where one is known, the size. */
export function verify(content: Buffer, expected: { readonly digest: string; readonly size?: number }, what: string): Buffer {
  const got = digestOf(content);
  if (got !== expected.digest) throw digestMismatch(what, expected.digest, got);
  if (expected.size !== undefined && content.length !== expected.size)
    throw malformed(`${what} should have ${expected.size} bytes but has ${content.length}`);
  return content;
}

/** Documents are few and far between: compiling a parser for each kind takes longer than it saves. */
const once = { jitless: true };

export function parseJson<S extends z.ZodType>(schema: S, content: Buffer, what: string): z.output<S> {
  try {
    return schema.parse(JSON.parse(content.toString("utf8")), once);
  } catch (cause) {
    throw malformed(`the ${what} cannot be understood`, cause);
  }
}

export const parseIndex = (content: Buffer): Descriptor[] => parseJson(index, content, "image index").manifests;

const kindOfDocument = z.object({ mediaType: z.string(), manifests: z.unknown(), config: z.unknown(), layers: z.unknown() }).partial();

/**
 * From an index or a manifest to the image for linux/amd64. `content` has been checked against `contentDigest`; `named` is the type that
 * whoever names it says it has, empty for none.
 */
export async function toImage(
  reference: string,
  content: Buffer,
  contentDigest: string,
  read: ReadDocument,
  named = "",
  depth = 0,
): Promise<ResolvedImage> {
  const kind = parseJson(kindOfDocument, content, "image manifest");
  if (named !== "" && !(kind.manifests === undefined ? imageManifest : imageIndex).test(named)) throw confused();
  if (kind.manifests !== undefined) {
    // One document that is two things is read differently by different tools (image-spec, GHSA-77vh-xpmg-72qh).
    if (kind.config !== undefined || kind.layers !== undefined || (kind.mediaType !== undefined && !imageIndex.test(kind.mediaType)))
      throw confused();
    if (depth >= maxIndexDepth) throw malformed(`the image has indexes more than ${maxIndexDepth} deep`);
    const chosen = choosePlatform(reference, parseIndex(content));
    return toImage(reference, verify(await read(chosen), chosen, "the image's manifest"), chosen.digest, read, chosen.mediaType, depth + 1);
  }
  if (kind.config === undefined) throw unsupported("the image has an old or unknown manifest format; push it again with a current tool");
  if (kind.mediaType !== undefined && !imageManifest.test(kind.mediaType)) throw confused();
  const parsed = parseJson(manifest, content, "image manifest");
  if (parsed.layers.length > maxLayers) throw malformed(`the image has ${parsed.layers.length} layers; the limit is ${maxLayers}`);
  if (parsed.config.mediaType !== "" && !imageConfigType.test(parsed.config.mediaType))
    throw unsupported(`the image's configuration has the type ${JSON.stringify(parsed.config.mediaType)}, which is no image's`);
  const document = verify(await read(parsed.config), parsed.config, "the image's configuration");
  const { imageConfig, diffIds } = parseConfig(reference, document);
  if (diffIds.length !== parsed.layers.length)
    throw malformed(`the image has ${parsed.layers.length} layers and ${diffIds.length} diff ids`);
  const layers = parsed.layers.map((layer, at) => ({
    digest: layer.digest,
    diffId: diffIds[at] ?? "",
    sizeBytes: layer.size,
    compression: compressionOf(layer.mediaType),
  }));
  return {
    reference,
    digest: contentDigest,
    sizeBytes: layers.reduce((sum, layer) => sum + layer.sizeBytes, 0),
    config: imageConfig,
    layers,
  };
}

/** The configuration of an image; throws `state` for another platform. */
export function parseConfig(reference: string, document: Buffer): { imageConfig: ImageConfig; diffIds: string[] } {
  const { imageConfig, diffIds } = toImageConfig(parseJson(configDocument, document, "image configuration"));
  const { os, architecture } = imageConfig;
  if (os !== "linux" || architecture !== "amd64") throw otherPlatform(reference, [`${os || "unknown"}/${architecture || "unknown"}`]);
  return { imageConfig, diffIds };
}

/** The manifest for linux/amd64; of several, the one for the oldest processors, which runs on all. */
function choosePlatform(reference: string, manifests: readonly Descriptor[]): Descriptor {
  const images = manifests.filter(
    ({ mediaType, platform: on }) =>
      (mediaType === "" || imageManifest.test(mediaType) || imageIndex.test(mediaType)) && on?.architecture !== "unknown",
  );
  const [best] = images
    .filter(({ platform: on }) => on?.os === "linux" && on.architecture === "amd64")
    .toSorted((a, b) => levelOf(a).localeCompare(levelOf(b)));
  const match = best ?? (images.length === 1 && !images[0]?.platform ? images[0] : undefined);
  if (match) return match;
  throw otherPlatform(reference, [...new Set(images.map(({ platform: on }) => (on ? `${on.os}/${on.architecture}` : "unknown")))]);
}

const confused = (): PitwallError => malformed("an image document is not of the type that it says it is");

const levelOf = ({ platform: on }: Descriptor): string => on?.variant ?? "";

function otherPlatform(reference: string, found: readonly string[]): PitwallError {
  const message = `image: ${reference} is for ${found.join(", ") || "no platform"}; Pitwall runs linux/amd64`;
  return new PitwallError("state", message, { reason: "IMAGE_PLATFORM", field: "image" });
}

function compressionOf(mediaType: string): LayerDescriptor["compression"] {
  const match = layerType.exec(mediaType);
  if (match) return match[1] === "gzip" || match[1] === "zstd" ? match[1] : "none";
  if (/\.(?:nondistributable|foreign)\./.test(mediaType))
    throw unsupported("the image has a layer that its registry does not hold (a foreign layer); build it without such layers");
  throw unsupported(`a layer has the type ${JSON.stringify(mediaType)}, which is not taken`);
}
