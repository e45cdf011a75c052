// Where images come from: one door for registries, layouts and archives.
import { realpath, stat } from "node:fs/promises";
import { isAbsolute, join, relative } from "node:path";
import { PitwallError, systemClock, type Clock } from "@pitwall/runtime";
import { ArchiveFile } from "./archive-file.ts";
import type { CredentialsFor } from "./credentials.ts";
import { resolveDockerArchive, type ArchivedImage } from "./docker-archive.ts";
import { imageNotFound, malformed } from "./image-error.ts";
import type { ImageSources, ResolvedImage } from "./image.ts";
import { indexName, layoutInArchive, layoutInFolder, openLayoutBlob, resolveLayout, type LayoutFiles } from "./layout.ts";
import { formatReference, parseReference } from "./reference.ts";
import { openRegistryClient } from "./registry.ts";

const keptArchives = 16;
/** Of images in folders, what their documents say. */
const keptLayouts = 64;
/** Two writes of a file so close to each other may bear the same time. */
const settledMs = 2_000;

interface OpenArchive {
  readonly file: ArchiveFile;
  /** Images of a docker archive by digest. */
  readonly images: Map<string, ArchivedImage>;
}

interface OpenImage {
  readonly file: ArchiveFile;
  readonly found: ArchivedImage;
}

export interface ImageSourceOptions {
  /** Folders that `oci:`, `oci-archive:` and `docker-archive:` may read below; none, and they are refused. */
  readonly imageRoots: readonly string[];
  /** `host:port` that may be on a private address and are spoken to over plain HTTP. */
  readonly insecureRegistries: readonly string[];
  /** `host:port` that may be on a private address, over HTTPS. */
  readonly privateRegistries?: readonly string[];
  /** For a registry's host, the hosts that are asked before it, in order. */
  readonly mirrors?: ReadonlyMap<string, readonly string[]>;
  /** Certificate authorities in PEM, besides those that Node knows. */
  readonly certificates?: string;
  /** Default: nobody signs in. */
  readonly credentialsFor?: CredentialsFor;
  readonly clock?: Clock;
}

/** Reads images from wherever a reference says. */
export function openImageSources(options: ImageSourceOptions): ImageSources {
  const clock = options.clock ?? systemClock;
  const registry = openRegistryClient({
    insecureHosts: new Set(options.insecureRegistries),
    privateHosts: new Set(options.privateRegistries),
    mirrors: options.mirrors ?? new Map(),
    certificates: options.certificates,
    credentialsFor: options.credentialsFor ?? (async () => undefined),
    clock,
  });
  const archives = new Map<string, OpenArchive>();
  const layouts = new Map<string, ResolvedImage>();

  /** The real path, if it is below a root: links must not lead out. */
  async function allowed(path: string, reference: string): Promise<string> {
    const real = await realpath(path).catch(() => undefined);
    for (const root of options.imageRoots) {
      const realRoot = await realpath(root).catch(() => root);
      const from = relative(realRoot, real ?? path);
      if (from === "" || (!from.startsWith("..") && !isAbsolute(from))) {
        if (real === undefined) throw imageNotFound(reference, "there is no such path");
        return real;
      }
    }
    const message = `image: ${reference} is not below a folder that PITWALL_IMAGE_ROOTS allows; push the image to a registry, or ask an administrator`;
    throw new PitwallError("invalid", message, { reason: "IMAGE_PATH_NOT_ALLOWED", field: "image" });
  }

  /** An archive is indexed again when the file has changed. */
  async function archiveAt(path: string, spelled: string): Promise<OpenArchive> {
    const file = await allowed(path, spelled);
    const { size, mtimeMs, ino } = await stat(file);
    const key = `${ino}:${size}:${mtimeMs}:${file}`;
    let open = archives.get(key);
    if (!open) {
      open = { file: await ArchiveFile.open(file, spelled), images: new Map() };
      archives.set(key, open);
      const [oldest] = archives.keys();
      if (archives.size > keptArchives && oldest !== undefined) archives.delete(oldest);
    }
    return open;
  }

  async function dockerImage(path: string, spelled: string, tag: string | undefined, digest: string | undefined): Promise<OpenImage> {
    const { file, images } = await archiveAt(path, spelled);
    const found = (digest !== undefined && images.get(digest)) || (await resolveDockerArchive(file, spelled, tag, digest));
    images.set(found.image.digest, found);
    return { file, found };
  }

  async function layoutOf(reference: { kind: "oci" | "oci-archive"; path: string }, spelled: string): Promise<LayoutFiles> {
    if (reference.kind === "oci") return layoutInFolder(await allowed(reference.path, spelled));
    return layoutInArchive((await archiveAt(reference.path, spelled)).file);
  }

  /** A layout's documents are read again when its index has changed; all else of it is named by its content. */
  async function layoutImage(path: string, spelled: string, tag: string | undefined, digest: string | undefined): Promise<ResolvedImage> {
    const dir = await allowed(path, spelled);
    const index = await stat(join(dir, indexName), { bigint: true }).catch(() => undefined);
    const version = index && [index.ino, index.size, index.mtimeNs, index.ctimeNs].join(":");
    const key = JSON.stringify([dir, spelled, tag, digest, version]);
    const known = version === undefined ? undefined : layouts.get(key);
    if (known) return known;
    const image = await resolveLayout(layoutInFolder(dir), spelled, tag, digest);
    const isSettled = index !== undefined && clock.wallMs() - Number(index.ctimeMs) > settledMs;
    if (isSettled) layouts.set(key, image);
    const [oldest] = layouts.keys();
    if (layouts.size > keptLayouts && oldest !== undefined) layouts.delete(oldest);
    return image;
  }

  return {
    async resolve(text, signal, { digest, credentialsFor } = {}) {
      const reference = parseReference(text);
      const spelled = formatReference(reference);
      switch (reference.kind) {
        case "registry":
          return registry.resolve(reference, spelled, signal, { ...(digest !== undefined && { digest }), credentialsFor });
        case "docker-archive":
          return (await dockerImage(reference.path, spelled, reference.tag, digest)).found.image;
        case "oci":
          return layoutImage(reference.path, spelled, reference.tag, digest);
        default:
          return resolveLayout(await layoutOf(reference, spelled), spelled, reference.tag, digest);
      }
    },
    async openBlob(text, image, layer, signal, credentialsFor) {
      const reference = parseReference(text);
      switch (reference.kind) {
        case "registry":
          return registry.openBlob(reference, layer, signal, credentialsFor);
        case "docker-archive": {
          const { file, found } = await dockerImage(reference.path, text, reference.tag, image.digest);
          const path = found.paths.get(layer.digest);
          if (path === undefined) throw malformed("the archive lacks a layer");
          return file.stream(path);
        }
        default:
          return openLayoutBlob(await layoutOf(reference, text), layer, text);
      }
    },
  };
}
