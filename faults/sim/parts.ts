// All that schedules of one thread run on: a database of its own on an installation's server, and the image that VMs are made of.
import { randomUUID } from "node:crypto";
import { openImageSources } from "@pitwall/oci";
import { openSimDatabase, type SimDatabase } from "./database.ts";
import type { Installation } from "./installation.ts";
import { watchDatabases } from "./traffic.ts";
import type { WorldParts } from "./world.ts";

/** Disposing it closes the database's connections. */
export async function openParts({
  databaseUrl,
  image,
}: Pick<Installation, "databaseUrl" | "image">): Promise<WorldParts & AsyncDisposable> {
  watchDatabases();
  const sources = openImageSources({ imageRoots: [image.slice("oci:".length)], insecureRegistries: [] });
  const resolved = await sources.resolve(image, new AbortController().signal);
  const database: SimDatabase = await openSimDatabase(databaseUrl, `sim_${randomUUID().replaceAll("-", "")}`);
  const images = { resolve: async () => resolved, openBlob: sources.openBlob };
  return { database, image, images, [Symbol.asyncDispose]: () => database[Symbol.asyncDispose]() };
}
