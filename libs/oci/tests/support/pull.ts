// Run as a process of its own, so that it can be killed: pulls an image and writes its squashfs.
// Arguments: the reference, its host, and a folder.
import { join } from "node:path";
import { Budget, defaultLimits, LayerStore, openConfinement, openImageSources, writeImage } from "../../src/index.ts";

const [reference = "", host = "", dir = ""] = process.argv.slice(2);
const signal = AbortSignal.timeout(60_000);
const sources = openImageSources({ imageRoots: [], insecureRegistries: [host] });
await using store = await LayerStore.open({ dir: join(dir, "layers"), sources, keepBytes: 2 ** 30, reserveBytes: 0 });
const image = await sources.resolve(reference, signal);
using pulling = store.begin(reference, image, new Budget(defaultLimits), signal);
await writeImage(pulling, join(dir, "image.sqfs"), defaultLimits, await openConfinement(), signal);
