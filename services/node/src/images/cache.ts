// Turns an image into what a VM boots from: one read-only squashfs per image digest, and the image's configuration beside it.
// `layers/` holds what images share, up to a size. A base is: absent -> usable (`bases/DIGEST.sqfs`) -> kept for good (on disk for sure,
// then `DIGEST.config.json` beside it). Only this module writes here; what a crash leaves that is not kept is removed when the cache opens.
import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import {
  Budget,
  defaultLimits,
  Flights,
  LayerStore,
  openConfinement,
  writeImage,
  type Confinement,
  type ImageConfig,
  type ImageSources,
} from "@pitwall/oci";
import { PitwallError, syncPath, systemClock, writeFileAtomic, type Log } from "@pitwall/runtime";

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
  const names = new Set(await readdir(bases));
  const isKept = (name: string): boolean => !name.endsWith(".tmp") && names.has(name.replace(/\.sqfs$/, ".config.json"));
  for (const name of names) if (!isKept(name)) await rm(join(bases, name), { force: true });
  const layers = await LayerStore.open({ dir: join(dir, "layers"), sources, keepBytes: keepLayersBytes, reserveBytes });
  const flights = new Flights<BaseImage>();
  /** Bases that are whole, and not yet on disk for sure. */
  const usable = new Map<string, ImageConfig>();
  let confining: Promise<Confinement> | undefined;

  /** How tar2sqfs is run; found out once, and again while there is none. */
  async function confinement(): Promise<Confinement> {
    confining ??= openConfinement().then((found) => {
      if (found.kind === "sealed") log.debug("images are converted apart", { kind: found.kind });
      else log.warn("this host does not let images be converted fully apart", { kind: found.kind });
      return found;
    });
    return confining.catch((error: unknown) => {
      confining = undefined;
      throw error;
    });
  }

  async function make(reference: string, digest: string, signal: AbortSignal): Promise<BaseImage> {
    const base = join(bases, `${hexOf(digest)}.sqfs`);
    const config = usable.get(digest) ?? (await readKept(base));
    if (config) return { base, config };
    const started = systemClock.monotonicMs();
    const [image, confined] = await Promise.all([sources.resolve(reference, signal, digest), confinement()]);
    using pulling = layers.begin(reference, image, new Budget(defaultLimits), signal);
    let pulled = started;
    const complete = pulling.complete.then(
      () => (pulled = systemClock.monotonicMs()),
      () => undefined, // writeImage tells
    );
    await writeImage(pulling, base, defaultLimits, confined, signal);
    await complete;
    void keep(digest, base, image.config);
    const pullMs = pulled - started;
    const convertMs = systemClock.monotonicMs() - pulled;
    log.info("image is ready", { digest, pullMs, convertMs, layers: image.layers.length });
    return { base, config: image.config, pullMs, convertMs };
  }

  /** Makes sure of the disk while VMs already boot. Never rejects: a base that is not kept is made again after a restart. */
  async function keep(digest: string, base: string, config: ImageConfig): Promise<void> {
    usable.set(digest, config);
    try {
      await syncPath(base);
      await writeFileAtomic(configPath(base), JSON.stringify(config), 0o644);
      usable.delete(digest);
    } catch (error) {
      log.warn("image is not kept", { digest, error });
    }
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
