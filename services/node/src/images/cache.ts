// Turns an image into what a VM boots from: one read-only squashfs per image digest, and the image's configuration beside it.
import { spawn } from "node:child_process";
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { defaultLimits, flatten, pullLayer, type ImageConfig, type ImageSources, type StoredLayer } from "@pitwall/oci";
import { exists, PitwallError, systemClock, writeFileAtomic, type Log } from "@pitwall/runtime";

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

interface Flight {
  readonly result: Promise<BaseImage>;
  readonly abort: AbortController;
  waiters: number;
}

/** `dir` is the cache folder; what a crash left half done in it is removed. */
export async function openImageCache(options: { dir: string; sources: ImageSources; log: Log }): Promise<ImageCache> {
  const { dir, sources, log } = options;
  const bases = join(dir, "bases");
  const blobs = join(dir, "blobs");
  await mkdir(bases, { recursive: true });
  await mkdir(blobs, { recursive: true });
  for (const name of await readdir(bases)) if (name.endsWith(".tmp")) await rm(join(bases, name), { force: true });
  const flights = new Map<string, Flight>();
  let converting: Promise<unknown> = Promise.resolve(); // one at a time: it takes a whole CPU

  async function make(reference: string, digest: string, signal: AbortSignal): Promise<BaseImage> {
    const base = join(bases, `${hexOf(digest)}.sqfs`);
    const kept = await readKept(base);
    if (kept) return { base, config: kept };
    const started = systemClock.monotonicMs();
    const image = await sources.resolve(reference, signal, digest);
    const layers: StoredLayer[] = [];
    for (const layer of image.layers) {
      const { path } = await pullLayer(sources, reference, image, layer, blobs, signal);
      layers.push({ path, compression: layer.compression, diffId: layer.diffId });
    }
    const pulled = systemClock.monotonicMs();
    const turn = converting.then(() => convert(layers, base, signal));
    converting = turn.catch(() => undefined);
    await turn;
    await writeFileAtomic(configPath(base), JSON.stringify(image.config), 0o644);
    const pullMs = pulled - started;
    const convertMs = systemClock.monotonicMs() - pulled;
    log.info("image is ready", { digest, pullMs, convertMs, layers: image.layers.length });
    return { base, config: image.config, pullMs, convertMs };
  }

  return {
    async ensure(reference, digest, signal) {
      let flight = flights.get(digest);
      if (!flight) {
        const abort = new AbortController();
        const result = make(reference, digest, abort.signal).finally(() => flights.delete(digest));
        result.catch(() => undefined); // told to each waiter
        flight = { result, abort, waiters: 0 };
        flights.set(digest, flight);
      }
      flight.waiters++;
      const leave = new Promise<never>((_, reject) => {
        const onAbort = (): void => reject(signal.reason);
        if (signal.aborted) onAbort();
        else signal.addEventListener("abort", onAbort, { once: true });
      });
      leave.catch(() => undefined); // raced
      try {
        return await Promise.race([flight.result, leave]);
      } finally {
        if (--flight.waiters === 0) flight.abort.abort();
      }
    },
  };
}

function hexOf(digest: string): string {
  const match = /^sha256:([0-9a-f]{64})$/.exec(digest);
  if (!match?.[1]) throw new PitwallError("internal", "an assignment came without an image digest");
  return match[1];
}

const configPath = (base: string): string => base.replace(/\.sqfs$/, ".json");

async function readKept(base: string): Promise<ImageConfig | undefined> {
  if (!(await exists(base))) return undefined;
  const text = await readFile(configPath(base), "utf8").catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as ImageConfig); // written by this file alone
}

async function convert(layers: readonly StoredLayer[], base: string, signal: AbortSignal): Promise<void> {
  const temporary = `${base}.${process.pid}.tmp`;
  const packer = spawn(
    "tar2sqfs",
    ["--quiet", "--force", "--compressor", "zstd", "--comp-extra", "level=3", "--defaults", "mtime=0", temporary],
    {
      stdio: ["pipe", "ignore", "pipe"],
    },
  );
  let said = "";
  packer.stderr.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-1024);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    packer.once("close", resolve);
    packer.once("error", reject);
  });
  ended.catch(() => undefined); // looked at below
  try {
    const written = pipeline(flatten(layers, defaultLimits, signal), packer.stdin).catch((error: unknown) => {
      packer.kill("SIGKILL");
      throw error;
    });
    const [piped, code] = await Promise.allSettled([written, ended]);
    if (code.status === "rejected") throw packerError(code.reason, said);
    // When the packer fails first, the pipe breaks: its own words say more.
    if (code.value !== null && code.value !== 0) throw packerError(undefined, said);
    if (piped.status === "rejected") throw piped.reason;
    const file = await open(temporary, "r");
    await file.sync();
    await file.close();
    await rename(temporary, base);
  } catch (error) {
    packer.kill("SIGKILL");
    await rm(temporary, { force: true });
    throw error;
  }
}

function packerError(cause: unknown, said: string): PitwallError {
  if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
    return new PitwallError("unsupported", "tar2sqfs is missing: install the Debian package squashfs-tools-ng", { cause });
  }
  if (/No space left/.test(said)) {
    return new PitwallError("exhausted", "the node's disk is full: free some space or use another node", { reason: "DISK_FULL" });
  }
  return new PitwallError("internal", `the image could not be converted: ${said.trim()}`, { reason: "IMAGE_CONVERSION_FAILED", cause });
}
