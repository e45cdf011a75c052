// An image as a registry gives it back.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Budget, defaultLimits, LayerStore, openImageSources, type Credential } from "../../src/index.ts";
import { sha256 } from "./layout-writer.ts";
import { scratch } from "./scratch.ts";

/** Digests of the layers' tars. */
export async function pulledLayers(
  reference: string,
  insecure: readonly string[],
  credentials: Readonly<Record<string, Credential>> = {},
): Promise<string[]> {
  await using into = await scratch();
  const sources = openImageSources({ imageRoots: [], insecureRegistries: insecure, credentialsFor: async (host) => credentials[host] });
  await using store = await LayerStore.open({ dir: join(into.dir, "layers"), sources, keepBytes: 2 ** 30, reserveBytes: 0 });
  const signal = AbortSignal.timeout(30_000);
  using lease = await store.lease(reference, await sources.resolve(reference, signal), new Budget(defaultLimits), signal);
  return await Promise.all(lease.files.map(async ({ path }) => sha256(await readFile(path))));
}
