// From layers on their way to the file system that VMs boot from.
import type { Confinement } from "./confinement.ts";
import { writeMerged, writeWhileComing, WrittenTooEarly } from "./flatten.ts";
import type { PullingLayers } from "./layer-store.ts";
import type { FlattenLimits } from "./limits.ts";
import { writeSquashfs } from "./squashfs.ts";

/**
 * Writes the squashfs of layers to `path`, beginning before they are complete. `onWritten` is called before it gets its name. Throws what
 * their pull, `onWritten` and {@link writeSquashfs} throw.
 */
export async function writeImage(
  layers: PullingLayers,
  path: string,
  limits: FlattenLimits,
  confinement: Confinement,
  signal: AbortSignal,
  onWritten?: () => Promise<void>,
): Promise<void> {
  try {
    await writeSquashfs((output) => writeWhileComing(layers.coming, layers.complete, limits, output), path, confinement, signal, onWritten);
  } catch (error) {
    if (!(error instanceof WrittenTooEarly)) throw error;
    const files = await layers.complete;
    await writeSquashfs((output) => writeMerged(files, limits, output), path, confinement, signal, onWritten);
  }
}
