// Layers as plain tars in one folder, each made once however many images and VMs ask, and shared by all images that have it.
// A layer is: absent -> in flight (`ID.tar.RANDOM.tmp`) -> usable (renamed to `ID.tar`) -> kept (on disk for sure, then `ID.json` beside it).
// ID is the hex of its diff id. Only this module writes here. What cannot be kept goes with its last lease, and what a crash leaves of it
// when the store opens.
import { randomBytes } from "node:crypto";
import { mkdir, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { addAbortSignal, type Readable } from "node:stream";
import { isMissing, noFailpoints, PitwallError, syncPath, writeFileAtomic, type Failpoints } from "@pitwall/runtime";
import type { CredentialsFor } from "./credentials.ts";
import { malformed, truncated } from "./image-error.ts";
import type { ImageSources, LayerDescriptor, ResolvedImage } from "./image.ts";
import { writeLayerFile } from "./layer-file.ts";
import { encodeIndex, readIndex, type LayerFile } from "./layer-index.ts";
import { LayerProgress } from "./layer-progress.ts";
import { Leases } from "./leases.ts";
import type { Budget } from "./limits.ts";
import { Flights } from "./flights.ts";
import { Slots } from "./slots.ts";

/** More would share the same network and the same processors. */
const layersAtOnce = 4;

/** Who asks for layers. */
export interface LayerCaller {
  readonly credentialsFor?: CredentialsFor | undefined;
  /** Joins no pull of a layer that another began: that one's refusal would become this one's. Default: false. */
  readonly isAlone?: boolean;
}

/** The stored bytes of a layer. */
type OpenLayer = (layer: LayerDescriptor, signal: AbortSignal) => Promise<Readable>;

export interface LayerStoreOptions {
  readonly dir: string;
  readonly sources: ImageSources;
  /** Bytes that kept layers may take together; the least recently used go first. */
  readonly keepBytes: number;
  /** Bytes of the disk that stay free. */
  readonly reserveBytes: number;
  readonly failpoints?: Failpoints;
}

/** Layers in use, which are not removed before this is disposed. */
export interface LeasedLayers extends Disposable {
  /** Lowest first. */
  readonly files: readonly LayerFile[];
}

/** Layers on their way, leased as they come. */
export interface PullingLayers extends Disposable {
  /** Lowest first. */
  readonly coming: readonly LayerProgress[];
  /** Rejects with the first failure. */
  readonly complete: Promise<readonly LayerFile[]>;
}

/** Opened once per folder and process. */
export class LayerStore implements AsyncDisposable {
  readonly #options: LayerStoreOptions;
  readonly #flights = new Flights<LayerFile, LayerProgress>();
  readonly #slots = new Slots(layersAtOnce);
  readonly #leases = new Leases();
  /** Whole, and not yet kept. */
  readonly #usable = new Map<string, LayerFile>();
  readonly #keeping = new Set<Promise<void>>();
  /** Pulls that nobody joins. */
  #apart = 0;
  /** Whole, and not to be kept: they go when the last lease ends. */
  readonly #unkept = new Set<string>();

  private constructor(options: LayerStoreOptions) {
    this.#options = options;
  }

  static async open(options: LayerStoreOptions): Promise<LayerStore> {
    await mkdir(options.dir, { recursive: true });
    const names = new Set(await readdir(options.dir));
    const isKept = (name: string): boolean => /^[0-9a-f]{64}\.(?:tar|json)$/.test(name) && names.has(name.replace(/\.tar$/, ".json"));
    for (const name of names) if (!isKept(name)) await rm(join(options.dir, name), { force: true });
    return new LayerStore(options);
  }

  /**
   * Begins to pull and unpack all layers of an image side by side. Each layer is charged to the budget of the image that asked first, and
   * pulled with its credentials.
   * Disposing it gives up what nobody else waits for. `complete` rejects with what {@link writeLayerFile} throws, and `unavailable` when a
   * source fails midway. Throws when `signal` is aborted.
   */
  begin(reference: string, image: ResolvedImage, budget: Budget, signal: AbortSignal, caller: LayerCaller = {}): PullingLayers {
    signal.throwIfAborted();
    const ids = image.layers.map(({ diffId }) => idOf(diffId));
    const leases = ids.map((id) => this.#leases.take(id));
    // One failure ends the others, and so does who is no longer interested: nobody needs them.
    const ended = new AbortController();
    const either = AbortSignal.any([signal, ended.signal]);
    const open: OpenLayer = (layer, by) => this.#options.sources.openBlob(reference, image, layer, by, caller.credentialsFor);
    const apart = caller.isAlone === true ? ` ${++this.#apart}` : "";
    const layers = image.layers.map((layer, at) => this.#layer(ids[at] ?? "", apart, layer, open, budget, either));
    const complete = Promise.all(layers.map(({ result }) => result));
    complete.catch((error: unknown) => ended.abort(error));
    return {
      coming: layers.map(({ watched }) => watched),
      complete,
      [Symbol.dispose]: () => {
        ended.abort(new Error("nobody waits for the layers"));
        for (const lease of leases) lease[Symbol.dispose]();
        for (const id of ids) if (this.#unkept.has(id)) this.#inBackground(this.#remove(id));
      },
    };
  }

  /** The same, when all layers are there. */
  async lease(reference: string, image: ResolvedImage, budget: Budget, signal: AbortSignal): Promise<LeasedLayers> {
    const pulling = this.begin(reference, image, budget, signal);
    try {
      return { files: await pulling.complete, [Symbol.dispose]: () => pulling[Symbol.dispose]() };
    } catch (error) {
      pulling[Symbol.dispose]();
      throw error;
    }
  }

  /** Bytes of each kept layer, by diff id. */
  async kept(): Promise<ReadonlyMap<string, number>> {
    return new Map((await this.#list()).map(({ id, sizeBytes }) => [`sha256:${id}`, sizeBytes]));
  }

  /** Removes the kept layers that are neither wanted nor leased; bytes. With `dryRun`, only says how many. */
  async free(isWanted: (diffId: string) => boolean, dryRun: boolean): Promise<number> {
    let freed = 0;
    for (const { id, sizeBytes } of await this.#list()) {
      if (isWanted(`sha256:${id}`)) continue;
      if (dryRun ? !this.#leases.isHeld(id) : await this.#remove(id)) freed += sizeBytes;
    }
    return freed;
  }

  /** Waits until what was given up has been removed, and what is usable is kept. No lease may be asked for any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#flights.idle();
    while (this.#keeping.size > 0) await Promise.all(this.#keeping);
  }

  #layer(
    id: string,
    apart: string,
    layer: LayerDescriptor,
    open: OpenLayer,
    budget: Budget,
    signal: AbortSignal,
  ): { readonly result: Promise<LayerFile>; readonly watched: LayerProgress } {
    const start = async (shared: AbortSignal, progress: LayerProgress): Promise<LayerFile> => {
      try {
        const path = join(this.#options.dir, `${id}.tar`);
        await this.#leases.settled(id);
        const made =
          this.#usable.get(id) ??
          (await this.#kept(id, path)) ??
          (await this.#slots.use(shared, () => this.#make(id, path, layer, open, budget, progress, shared)));
        progress.complete(made);
        return made;
      } catch (error) {
        progress.fail();
        throw error;
      }
    };
    return this.#flights.join(`${id}${apart}`, signal, () => new LayerProgress(), start);
  }

  async #kept(id: string, path: string): Promise<LayerFile | undefined> {
    const present = await stat(path).catch(() => undefined);
    const index = present && (await readIndex(join(this.#options.dir, `${id}.json`)));
    if (!present || index?.sizeBytes !== present.size) return undefined;
    const now = new Date();
    await utimes(path, now, now);
    return { path, ...index };
  }

  async #make(
    id: string,
    path: string,
    layer: LayerDescriptor,
    open: OpenLayer,
    budget: Budget,
    progress: LayerProgress,
    signal: AbortSignal,
  ): Promise<LayerFile> {
    const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
    try {
      const blob = addAbortSignal(signal, await open(layer, signal));
      blob.on("error", () => undefined); // told to who reads it
      // No encoding is set, so chunks are buffers.
      const chunks = blob as AsyncIterable<Buffer>;
      const { reserveBytes, failpoints = noFailpoints } = this.#options;
      const onBegun = (): Promise<void> => failpoints.at("create.pull.blob.partial", layer.digest);
      const options = { budget, reserveBytes, progress, signal, onBegun };
      const file = await writeLayerFile(chunks, layer, temporary, options).finally(() => blob.destroy());
      await rename(temporary, path);
      await failpoints.at("create.pull.blob.renamed", layer.digest);
      const made = { ...file, path };
      this.#keep(id, made);
      return made;
    } catch (error) {
      await rm(temporary, { force: true });
      signal.throwIfAborted();
      if (error instanceof PitwallError) throw error;
      if (isMissing(error)) throw truncated(`layer ${layer.digest} is missing and the image`, error);
      throw new PitwallError("unavailable", `layer ${layer.digest} could not be read to its end`, {
        reason: "REGISTRY_UNREACHABLE",
        cause: error,
      });
    }
  }

  /** Makes sure of the disk while the layer is already in use; a layer that cannot be kept goes with its last lease. */
  #keep(id: string, file: LayerFile): void {
    this.#usable.set(id, file);
    this.#unkept.delete(id);
    const keep = async (): Promise<void> => {
      try {
        await syncPath(file.path);
        await writeFileAtomic(join(this.#options.dir, `${id}.json`), encodeIndex(file));
      } catch {
        this.#unkept.add(id);
        return void (await this.#remove(id));
      }
      if (this.#usable.get(id) === file) this.#usable.delete(id); // another may have been made since
      await this.#trim();
    };
    this.#inBackground(keep());
  }

  /** What fails here is done again when it is needed. */
  #inBackground(work: Promise<unknown>): void {
    const done: Promise<void> = work.then(
      () => void this.#keeping.delete(done),
      () => void this.#keeping.delete(done),
    );
    this.#keeping.add(done);
  }

  /** Removes the least recently used layers beyond `keepBytes`, but none in use. */
  async #trim(): Promise<void> {
    const kept = await this.#list();
    let total = kept.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    for (const { id, sizeBytes } of kept.toSorted((a, b) => a.usedMs - b.usedMs)) {
      if (total <= this.#options.keepBytes) return;
      if (await this.#remove(id)) total -= sizeBytes;
    }
  }

  async #list(): Promise<{ readonly id: string; readonly sizeBytes: number; readonly usedMs: number }[]> {
    const { dir } = this.#options;
    const names = (await readdir(dir)).filter((name) => /^[0-9a-f]{64}\.json$/.test(name));
    return Promise.all(
      names.map(async (name) => {
        const id = name.slice(0, -".json".length);
        const found = await stat(join(dir, `${id}.tar`)).catch(() => undefined);
        return { id, sizeBytes: found?.size ?? 0, usedMs: found?.mtimeMs ?? 0 };
      }),
    );
  }

  /** False when it is leased. */
  async #remove(id: string): Promise<boolean> {
    return this.#leases.removeUnlessHeld(id, async () => {
      this.#usable.delete(id);
      this.#unkept.delete(id);
      await rm(join(this.#options.dir, `${id}.tar`), { force: true }); // first: without its tar an index says nothing
      await rm(join(this.#options.dir, `${id}.json`), { force: true });
    });
  }
}

function idOf(diffId: string): string {
  const id = /^sha256:([0-9a-f]{64})$/.exec(diffId)?.[1];
  if (id === undefined) throw malformed("a layer's diff id is not of sha256");
  return id;
}
