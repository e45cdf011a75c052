// Run as a process of its own, so that it can be traced: makes a squashfs of each layout in a folder.
// Arguments: a folder with `layouts/`, and the folder to work in, which is there. Prints what became of each as one line of JSON.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { PitwallError } from "@pitwall/runtime";
import { Budget, defaultLimits, LayerStore, openConfinement, openImageSources, writeImage } from "../../src/index.ts";

/** By the layout's name: "made", or the refusal. */
export type Outcomes = Readonly<Record<string, string>>;

const [dir = "", work = ""] = process.argv.slice(2);
const signal = AbortSignal.timeout(240_000);
const sources = openImageSources({ imageRoots: [dir], insecureRegistries: [] });
const confinement = await openConfinement();
await using store = await LayerStore.open({ dir: join(work, "layers"), sources, keepBytes: 2 ** 30, reserveBytes: 0 });

async function convert(name: string): Promise<string> {
  const reference = `oci:${join(dir, "layouts", name)}`;
  try {
    const image = await sources.resolve(reference, signal);
    using pulling = store.begin(reference, image, new Budget(defaultLimits), signal);
    await writeImage(pulling, join(work, `${name}.sqfs`), defaultLimits, confinement, signal);
    return "made";
  } catch (error) {
    if (error instanceof PitwallError) return `${error.fault}: ${error.message}`;
    throw error;
  }
}

const outcomes: Record<string, string> = {};
for (const name of await readdir(join(dir, "layouts"))) outcomes[name] = await convert(name);
process.stdout.write(JSON.stringify(outcomes satisfies Outcomes));
