// Turns an image into what a VM boots from: one read-only squashfs per image digest, and the image's configuration beside it.
// `bases/DIGEST.sqfs` and `.config.json` are kept for good; `layers/` holds what images share, up to a size.
import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Budget, defaultLimits, Flights, LayerStore, writeImage, type ImageConfig, type ImageSources } from "@pitwall/oci";
import { PitwallError, systemClock, writeFileAtomic, type Log } from "@pitwall/runtime";

/** A base image that is ready to boot. Times are milliseconds, absent when the step was not needed. */
export interface BaseImage {
  readonly base: string;
  readonly config: ImageConfig;
  readonly pullMs?: number;
  readonly convertMs?: number;
}

export interface ImageCache {
  /** Pulls and converts unless that was done before. One image is worked on once, however many VMs wait for it. */
  ensure(reference: string, digest: string, signal: AbortSignal): Promise<BaseImage>;
}

const keepLayersBytes = 20 * 2 ** 30;
const reserveBytes = 512 * 2 ** 20;

/** `dir` is the cache folder; what a crash left half done in it is removed. */
export async function openImageCache(options: { dir: string; sources: ImageSources; log: Log }): Promise<ImageCache> {
  const { dir, sources, log } = options;
  const bases = join(dir, "bases");
  await mkdir(bases, { recursive: true });
  for (const name of await readdir(bases)) if (name.endsWith(".tmp")) await rm(join(bases, name), { force: true });
  const layers = await LayerStore.open({ dir: join(dir, "layers"), sources, keepBytes: keepLayersBytes, reserveBytes });
  const flights = new Flights<BaseImage>();

  async function make(reference: string, digest: string, signal: AbortSignal): Promise<BaseImage> {
    const base = join(bases, `${hexOf(digest)}.sqfs`);
    const kept = await readKept(base);
    if (kept) return { base, config: kept };
    const started = systemClock.monotonicMs();
    const image = await sources.resolve(reference, signal, digest);
    using pulling = layers.begin(reference, image, new Budget(defaultLimits), signal);
    let pulled = started;
    const complete = pulling.complete.then(() => (pulled = systemClock.monotonicMs()));
    await writeImage(pulling, base, defaultLimits, signal);
    await complete;
    await writeFileAtomic(configPath(base), JSON.stringify(image.config), 0o644);
    const pullMs = pulled - started;
    const convertMs = systemClock.monotonicMs() - pulled;
    log.info("image is ready", { digest, pullMs, convertMs, layers: image.layers.length });
    return { base, config: image.config, pullMs, convertMs };
  }

  return {
    ensure: async (reference, digest, signal) =>
      flights.join(
        digest,
        signal,
        () => undefined,
        (shared) => make(reference, digest, shared),
      ).result,
  };
}

function hexOf(digest: string): string {
  const match = /^sha256:([0-9a-f]{64})$/.exec(digest);
  if (!match?.[1]) throw new PitwallError("internal", "an assignment came without an image digest");
  return match[1];
}

const configPath = (base: string): string => base.replace(/\.sqfs$/, ".config.json");

async function readKept(base: string): Promise<ImageConfig | undefined> {
  if (!(await stat(base).catch(() => undefined))) return undefined;
  const text = await readFile(configPath(base), "utf8").catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as ImageConfig); // written by this file alone
}
