// Turns an image into what a VM boots from: one read-only squashfs per image digest, and beside it what is known of the image.
// `layers/` holds what images share, up to a size. A base is: absent -> usable (`bases/DIGEST.sqfs`) -> kept for good (on disk for sure,
// then `DIGEST.config.json` beside it) -> freed (the base first). Only this module writes here; what a crash leaves that is not kept is
// removed when the cache opens. Nothing is freed that is leased: by a VM from before its journal is written until that is removed, by whoever
// makes or keeps an image meanwhile.
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import {
  Budget,
  defaultLimits,
  Flights,
  LayerStore,
  Leases,
  openConfinement,
  orDiskFull,
  writeImage,
  type Confinement,
  type CredentialsFor,
  type ImageConfig,
  type ImageSources,
  type LayerCaller,
} from "@pitwall/oci";
import { exists, noFailpoints, PitwallError, syncPath, systemClock, type Failpoints, type Log } from "@pitwall/runtime";
import { digestOf, hexOf, readRecord, recordPath, writeRecord, type ImageRecord } from "./record.ts";
import { joinSharers, type Sharers } from "./sharers.ts";

/** A base image that is ready to boot. Times are milliseconds, absent when the step was not needed. */
export interface BaseImage {
  readonly base: string;
  readonly config: ImageConfig;
  readonly pullMs?: number;
  readonly convertMs?: number;
}

/** An image in the cache. */
export interface CachedImage {
  readonly digest: string;
  readonly references: readonly string[];
  readonly baseBytes: number;
  /** Of its layers that are kept; others may share them. */
  readonly layerBytes: number;
}

/** What is no longer in the cache. */
export interface Freed {
  readonly digests: readonly string[];
  readonly baseBytes: number;
  readonly layerBytes: number;
  /** Asked for by name, and in use. */
  readonly digestsInUse: readonly string[];
}

export interface FreeOptions {
  /** None: all. */
  readonly digests: readonly string[];
  readonly keepDigests: readonly string[];
  /** Only says what would be freed. */
  readonly dryRun: boolean;
}

export interface ImageCache extends AsyncDisposable {
  /**
   * Pulls and converts unless that was done before. One image is worked on once, however many VMs wait for it, with the credentials of who
   * asked first. What is there is anybody's who knows its digest: whoever hands out digests has asked the registry for leave.
   */
  ensure(reference: string, digest: string, signal: AbortSignal, credentialsFor?: CredentialsFor): Promise<BaseImage>;
  /** Whatever there is of the image, or will be, stays until the lease is disposed. */
  lease(digest: string): Disposable;
  /** Of all that is ready to boot, as a look at the names of files tells. */
  digests(): Promise<readonly string[]>;
  /** By digest. */
  list(): Promise<readonly CachedImage[]>;
  /**
   * Removes images that nobody leases, and layers that no remaining image has: those of the named images, or of any when none is named.
   * Throws `state` while another agent uses the folder.
   */
  free(options: FreeOptions): Promise<Freed>;
}

export interface ImageCacheOptions {
  /** The cache folder; what a crash left half done in it is removed. */
  readonly dir: string;
  readonly sources: ImageSources;
  readonly log: Log;
  /** How long it may take to make one image ready. */
  readonly limitMs: number;
  /** Bytes of the disk that stay free. Default: half a GiB. */
  readonly reserveBytes?: number;
  readonly failpoints?: Failpoints;
}

const keepLayersBytes = 20 * 2 ** 30;
const defaultReserveBytes = 512 * 2 ** 20;

/** Throws `exhausted` (DISK_FULL) when there is not even room for its folders. */
export async function openImageCache(options: ImageCacheOptions): Promise<ImageCache> {
  const { dir, sources, log, limitMs, failpoints = noFailpoints } = options;
  const bases = join(dir, "bases");
  const { layers, sharers, records } = await openFolders(bases, options).catch((error: unknown) => {
    throw orDiskFull(error);
  });
  const flights = new Flights<BaseImage>();
  const leases = new Leases();
  /** Bases that are whole, and not yet on disk for sure. */
  const usable = new Map<string, ImageRecord>();
  const keeping = new Set<Promise<void>>();
  /** Flights that nobody else joins. */
  let alone = 0;
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

  /** Undefined when there is no such base, or it is not whole. What another agent has made meanwhile is read from the disk. */
  async function recordOf(digest: string, base: string): Promise<ImageRecord | undefined> {
    const known = usable.get(digest) ?? records.get(digest);
    if (known && (await exists(base))) return known;
    const read = await readRecord(base);
    if (read) records.set(digest, read);
    else records.delete(digest);
    return read;
  }

  async function make(reference: string, digest: string, signal: AbortSignal, caller: LayerCaller): Promise<BaseImage> {
    using _ = leases.take(digest);
    await leases.settled(digest);
    const base = join(bases, `${hexOf(digest)}.sqfs`);
    const known = await recordOf(digest, base);
    if (known) {
      if (!known.references.includes(reference)) keep(digest, base, { ...known, references: [...known.references, reference].slice(-8) });
      return { base, config: known.config };
    }
    const started = systemClock.monotonicMs();
    const [image, confined] = await Promise.all([
      sources.resolve(reference, signal, { digest, credentialsFor: caller.credentialsFor }),
      confinement(),
    ]);
    await failpoints.at("create.pull.manifest", digest);
    using pulling = layers.begin(reference, image, new Budget(defaultLimits), signal, caller);
    let pulled = started;
    const complete = pulling.complete.then(
      () => (pulled = systemClock.monotonicMs()),
      () => undefined, // writeImage tells
    );
    await failpoints.at("create.flatten.start", digest);
    await writeImage(pulling, base, defaultLimits, confined, signal, () => failpoints.at("create.flatten.fs.written", digest));
    await complete;
    keep(digest, base, { config: image.config, references: [reference], layers: image.layers.map(({ diffId }) => diffId) });
    const pullMs = pulled - started;
    const convertMs = systemClock.monotonicMs() - pulled;
    log.info("image is ready", { digest, pullMs, convertMs, layers: image.layers.length });
    return { base, config: image.config, pullMs, convertMs };
  }

  /** Makes sure of the disk while VMs already boot. A base that is not kept is made again after a restart. */
  function keep(digest: string, base: string, record: ImageRecord): void {
    usable.set(digest, record);
    const lease = leases.take(digest);
    const work = (async () => {
      await syncPath(base);
      await writeRecord(base, record);
      records.set(digest, record);
      await failpoints.at("create.flatten.kept", digest);
      if (usable.get(digest) === record) usable.delete(digest);
    })()
      .catch((error: unknown) => log.warn("image is not kept", { digest, error }))
      .finally(() => {
        lease[Symbol.dispose]();
        keeping.delete(work);
      });
    keeping.add(work);
  }

  /** All that is ready to boot. */
  async function ready(): Promise<(ImageRecord & { readonly digest: string; readonly base: string; readonly baseBytes: number })[]> {
    const found = [];
    for (const name of (await readdir(bases)).toSorted()) {
      const digest = digestOf(name);
      const base = join(bases, name);
      const record = digest && (await recordOf(digest, base));
      const file = record && (await stat(base).catch(() => undefined));
      if (file) found.push({ ...record, digest, base, baseBytes: file.size });
    }
    return found;
  }

  return {
    async ensure(reference, digest, signal, credentialsFor) {
      const wait = (key: string, isAlone: boolean): Promise<BaseImage> => {
        const start = (shared: AbortSignal): Promise<BaseImage> =>
          inTime(limitMs, shared, (limited) => make(reference, digest, limited, { credentialsFor, isAlone }));
        return flights.join(key, signal, () => undefined, start).result;
      };
      try {
        return await wait(digest, false);
      } catch (error) {
        // It may have been another's credentials that the registry did not take.
        if (!(error instanceof PitwallError) || error.fault !== "denied") throw error;
        return await wait(`${digest} ${++alone}`, true);
      }
    },
    lease: (digest) => leases.take(digest),
    digests: async () => (await readdir(bases)).flatMap((name) => digestOf(name) ?? []).toSorted(),
    async list() {
      const [images, kept] = await Promise.all([ready(), layers.kept()]);
      return images.map(({ digest, references, baseBytes, layers: diffIds }) => {
        const layerBytes = [...new Set(diffIds)].reduce((sum, diffId) => sum + (kept.get(diffId) ?? 0), 0);
        return { digest, references, baseBytes, layerBytes };
      });
    },
    async free({ digests, keepDigests, dryRun }) {
      if (await sharers.hasOthers()) {
        throw new PitwallError("state", "another agent uses this image cache: give each its own PITWALL_CACHE_DIR", {
          reason: "CACHE_SHARED",
        });
      }
      const named = new Set(digests);
      const wanted = new Set(keepDigests);
      const freed: { digest: string; baseBytes: number; layers: readonly string[] }[] = [];
      const wantedLayers = new Set<string>();
      const digestsInUse: string[] = [];
      for (const { digest, base, baseBytes, layers: diffIds } of await ready()) {
        const isMeant = named.size === 0 || named.has(digest);
        const remove = async (): Promise<void> => {
          usable.delete(digest);
          records.delete(digest);
          await rm(base, { force: true }); // first: without its base a record says nothing
          await rm(recordPath(base), { force: true });
        };
        const isFree = isMeant && !wanted.has(digest) && (dryRun ? !leases.isHeld(digest) : await leases.removeUnlessHeld(digest, remove));
        if (isFree) freed.push({ digest, baseBytes, layers: diffIds });
        else for (const diffId of diffIds) wantedLayers.add(diffId);
        if (!isFree && named.has(digest)) digestsInUse.push(digest);
      }
      // By name, only what was those images'; else also what is nobody's.
      const theirs = new Set(freed.flatMap(({ layers: diffIds }) => diffIds));
      const isWanted = (diffId: string): boolean => wantedLayers.has(diffId) || (named.size > 0 && !theirs.has(diffId));
      const layerBytes = await layers.free(isWanted, dryRun);
      const baseBytes = freed.reduce((sum, image) => sum + image.baseBytes, 0);
      if (!dryRun && freed.length > 0) log.info("images were freed", { images: freed.length, baseBytes, layerBytes });
      return { digests: freed.map(({ digest }) => digest), baseBytes, layerBytes, digestsInUse };
    },
    async [Symbol.asyncDispose]() {
      await flights.idle();
      await Promise.all(keeping);
      await layers[Symbol.asyncDispose]();
      await sharers[Symbol.asyncDispose]();
    },
  };
}

/** Work that is aborted after `limitMs`, or with `signal`. */
async function inTime<T>(limitMs: number, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const late = new AbortController();
  using _ = systemClock.after(limitMs, () => late.abort(tooLate(limitMs)));
  return await work(AbortSignal.any([signal, late.signal]));
}

function tooLate(limitMs: number): PitwallError {
  const message = `the image was not ready after ${Math.round(limitMs / 1000)} s: ask again, use a smaller image, or raise PITWALL_IMAGE_TIMEOUT of the node`;
  return new PitwallError("deadline", message, { reason: "IMAGE_TIMEOUT" });
}

async function openFolders(
  bases: string,
  { dir, sources, reserveBytes = defaultReserveBytes, failpoints = noFailpoints }: ImageCacheOptions,
): Promise<{ readonly layers: LayerStore; readonly sharers: Sharers; readonly records: Map<string, ImageRecord> }> {
  await mkdir(bases, { recursive: true });
  const names = new Set(await readdir(bases));
  const isKept = (name: string): boolean => !name.endsWith(".tmp") && names.has(recordPath(name)) && names.has(basePath(name));
  for (const name of names) if (!isKept(name)) await rm(join(bases, name), { force: true });
  const records = new Map<string, ImageRecord>();
  for (const name of names) {
    const digest = digestOf(name);
    const record = digest && (await readRecord(join(bases, name)));
    if (record) records.set(digest, record);
  }
  const layers = await LayerStore.open({ dir: join(dir, "layers"), sources, keepBytes: keepLayersBytes, reserveBytes, failpoints });
  return { layers, sharers: await joinSharers(join(dir, "agents")), records };
}

const basePath = (path: string): string => path.replace(/\.config\.json$/, ".sqfs");
