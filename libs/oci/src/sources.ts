// Where images come from: one door for registries, layouts and archives.
import { realpath } from "node:fs/promises";
import { relative, isAbsolute } from "node:path";
import { PitwallError } from "@pitwall/runtime";
import { openArchiveLayer, resolveArchive, type ArchivedImage } from "./docker-archive.ts";
import { imageNotFound, malformed } from "./image-error.ts";
import type { ImageSources } from "./image.ts";
import { openLayoutBlob, resolveLayout } from "./layout.ts";
import { formatReference, parseReference } from "./reference.ts";
import { openRegistryClient } from "./registry.ts";

const keptArchives = 16;

/** `imageRoots`: folders that `oci:` and `docker-archive:` may read below; none, and they are refused. `insecureRegistries`: `host:port`. */
export function openImageSources(options: { imageRoots: readonly string[]; insecureRegistries: readonly string[] }): ImageSources {
  const registry = openRegistryClient(new Set(options.insecureRegistries));
  const archives = new Map<string, ArchivedImage>();

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

  async function archived(file: string, spelled: string, tag: string | undefined, digest: string | undefined): Promise<ArchivedImage> {
    const found = await resolveArchive(file, spelled, tag, digest);
    archives.set(found.image.digest, found);
    const [oldest] = archives.keys();
    if (archives.size > keptArchives && oldest !== undefined) archives.delete(oldest);
    return found;
  }

  return {
    async resolve(text, signal, digest) {
      const reference = parseReference(text);
      const spelled = formatReference(reference);
      switch (reference.kind) {
        case "registry":
          return registry.resolve(reference, spelled, signal, digest);
        case "oci":
          return resolveLayout(await allowed(reference.path, spelled), spelled, reference.tag, digest);
        case "docker-archive":
          return (await archived(await allowed(reference.path, spelled), spelled, reference.tag, digest)).image;
      }
    },
    async openBlob(text, image, layer, signal) {
      const reference = parseReference(text);
      switch (reference.kind) {
        case "registry":
          return registry.openBlob(reference, layer, signal);
        case "oci":
          return openLayoutBlob(await allowed(reference.path, text), layer);
        case "docker-archive": {
          const file = await allowed(reference.path, text);
          const { paths } = archives.get(image.digest) ?? (await archived(file, text, reference.tag, image.digest));
          const path = paths.get(layer.digest);
          if (path === undefined) throw malformed("the archive lacks a layer");
          return openArchiveLayer(file, path);
        }
      }
    },
  };
}
