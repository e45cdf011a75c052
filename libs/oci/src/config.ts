// The settings that say where images may come from, the same for every service that reads images.
import { list, secretFile } from "@pitwall/runtime";
import { z } from "zod";
import { parseDockerConfig } from "./credentials.ts";
import type { ImageSourceOptions } from "./sources.ts";

/** Part of a service's configuration. Mirrors are `HOST=MIRROR`, asked in order; the files are PEM and `~/.docker/config.json`. */
export const imageSourceSettings = {
  PITWALL_IMAGE_ROOTS: list.default([]),
  PITWALL_INSECURE_REGISTRIES: list.default([]),
  PITWALL_PRIVATE_REGISTRIES: list.default([]),
  PITWALL_REGISTRY_MIRRORS: list
    .refine((pairs) => pairs.every((pair) => /^[^=\s]+=[^=\s/]+$/.test(pair)), "must be HOST=MIRROR,…")
    .default([]),
  PITWALL_REGISTRY_CA_FILE: secretFile.optional(),
  PITWALL_REGISTRY_CREDENTIALS_FILE: secretFile.optional(),
};

const schema = z.object(imageSourceSettings);

/** Throws `corrupt` when the credentials cannot be read. */
export function imageSourceOptions(config: z.output<typeof schema>): ImageSourceOptions {
  const mirrors = new Map<string, string[]>();
  for (const pair of config.PITWALL_REGISTRY_MIRRORS) {
    const [host = "", mirror = ""] = pair.split("=");
    const registry = host === "docker.io" ? "registry-1.docker.io" : host;
    mirrors.set(registry, [...(mirrors.get(registry) ?? []), mirror]);
  }
  const { PITWALL_REGISTRY_CA_FILE: certificates, PITWALL_REGISTRY_CREDENTIALS_FILE: credentials } = config;
  return {
    imageRoots: config.PITWALL_IMAGE_ROOTS,
    insecureRegistries: config.PITWALL_INSECURE_REGISTRIES,
    privateRegistries: config.PITWALL_PRIVATE_REGISTRIES,
    mirrors,
    ...(certificates !== undefined && { certificates }),
    ...(credentials !== undefined && { credentialsFor: parseDockerConfig(credentials) }),
  };
}
