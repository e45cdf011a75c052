// Pulls on disks that are too small, by every number of bytes and of files, and pulls that take too long.
import { execFile, execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, statfs } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { promisify } from "node:util";
import { openImageSources, type ImageSources } from "@pitwall/oci";
import { emptyConfig } from "@pitwall/oci/tests/support/empty-config.ts";
import { imageOf, layerOf, sha256, writeLayout } from "@pitwall/oci/tests/support/layout-writer.ts";
import { scratch } from "@pitwall/oci/tests/support/scratch.ts";
import { tarOf } from "@pitwall/oci/tests/support/tar-writer.ts";
import { PitwallError, silentLog, type Log } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { openImageCache, type BaseImage, type ImageCache } from "../src/images/cache.ts";

const run = promisify(execFile);
const never = new AbortController().signal;
const limitMs = 60_000;
const stepBytes = 16_384;

// Half of it packs, so that a layer and its tar, and the base, need room at different times.
const content = (): Buffer => Buffer.concat([randomBytes(60_000), Buffer.alloc(60_000, "packs")]);
const image = imageOf([
  layerOf(tarOf([{ name: "one", content: content() }]), "gzip"),
  layerOf(tarOf([{ name: "two", content: content() }]), "none"),
]);
const digest = sha256(image.manifest);

/** The step that met the full disk. */
function stepOf({ cause }: PitwallError): string {
  if (!(cause instanceof Error)) return "before a layer";
  if (!("syscall" in cause)) return "the base's content";
  if (cause.syscall === "write") return "a layer's content";
  const folder = /\/(agents|bases|layers)/.exec("path" in cause ? String(cause.path) : "")?.[1] ?? "";
  if (cause.syscall === "mkdir") return `the folder of ${folder}`;
  return folder === "agents" ? "the agent's file" : "a new file"; // layers and base are begun at once
}

interface Disk extends AsyncDisposable {
  readonly dir: string;
  /** Bytes and files that are used. */
  used(): Promise<readonly [number, number]>;
  resize(...options: readonly string[]): Promise<void>;
}

/** A file system of its own at `dir`. */
async function mount(dir: string, ...options: readonly string[]): Promise<Disk> {
  await mkdir(dir, { recursive: true });
  await run("mount", ["-t", "tmpfs", "-o", options.join(","), "tmpfs", dir]);
  return {
    dir,
    async used() {
      const { blocks, bfree, bsize, files, ffree } = await statfs(dir);
      return [(blocks - bfree) * bsize, files - ffree];
    },
    resize: async (...to) => void (await run("mount", ["-o", ["remount", ...to].join(","), dir])),
    [Symbol.asyncDispose]: async () => void (await run("umount", ["--lazy", dir])),
  };
}

const whyNot = ((): string => {
  try {
    execFileSync("unshare", ["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], { stdio: "ignore" });
    return "";
  } catch {
    return " (skipped: this user cannot mount)";
  }
})();

const filesIn = async (dir: string): Promise<string[]> =>
  (await readdir(dir, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).map(({ name }) => name);

it.skipIf(whyNot !== "")(
  `says so at each step when the disk is full, and leaves nothing there${whyNot}`,
  { timeout: 300_000 },
  async () => {
    await using work = await scratch();
    const layout = join(work.dir, "layout");
    await writeLayout(layout, image);
    const sources = openImageSources({ imageRoots: [layout], insecureRegistries: [] });
    const hashOf = async ({ base }: BaseImage): Promise<string> =>
      createHash("sha256")
        .update(await readFile(base))
        .digest("hex");
    const right = { hash: "" };
    {
      await using cache = await openImageCache({ dir: join(work.dir, "roomy"), sources, log: silentLog, limitMs });
      right.hash = await hashOf(await cache.ensure(`oci:${layout}`, digest, never));
    }
    const steps = new Map<string, number>();
    const count = (step: string): void => void steps.set(step, (steps.get(step) ?? 0) + 1);
    const warned: string[] = [];
    const log: Log = { ...silentLog, warn: (message) => warned.push(message) };

    /** Whether there was room for all of it. */
    async function attempt(...options: readonly string[]): Promise<boolean> {
      warned.length = 0;
      await using disk = await mount(join(work.dir, "small"), ...options);
      const dir = join(disk.dir, "cache");
      const open = (): Promise<ImageCache> => openImageCache({ dir, sources, log, limitMs, reserveBytes: 0 });
      const isRefusal = (error: unknown): undefined => {
        if (!(error instanceof PitwallError)) throw error;
        expect([options, error.fault, error.reason, error.message]).toEqual([
          options,
          "exhausted",
          "DISK_FULL",
          "the node's disk is full: free some space or use another node",
        ]);
        count(stepOf(error));
      };
      let isRoomy: boolean;
      const opened = await open().catch(isRefusal);
      const before = opened && (await disk.used());
      {
        await using cache = opened;
        const made = await cache?.ensure(`oci:${layout}`, digest, never).catch(isRefusal);
        isRoomy = made !== undefined && (await hashOf(made)) === right.hash;
        expect(isRoomy).toBe(made !== undefined);
      }
      const left = await filesIn(disk.dir);
      if (isRoomy) {
        if (warned.length > 0) count("the base's record");
        if (left.filter((name) => name.endsWith(".tar")).length < image.layers.length) count("a layer's index");
      }
      expect(left.filter((name) => name.endsWith(".tmp"))).toEqual([]);
      for (const name of left.filter((one) => one.endsWith(".tar"))) expect(left).toContain(name.replace(/\.tar$/, ".json"));
      await disk.resize("size=64m", "nr_inodes=1000");
      await using again = await open();
      await again.free({ digests: [], keepDigests: [], dryRun: false });
      const after = await disk.used();
      if (before) expect(after).toEqual(before);
      expect(await hashOf(await again.ensure(`oci:${layout}`, digest, never))).toBe(right.hash);
      return isRoomy && warned.length === 0 && left.filter((name) => name.endsWith(".json")).length === 3;
    }

    for (let files = 2; !(await attempt("size=64m", `nr_inodes=${files}`)); files++);
    for (let bytes = 4096; !(await attempt(`size=${bytes}`, "nr_inodes=1000")); bytes += stepBytes);
    expect([...steps.keys()].toSorted()).toEqual([
      "a layer's content",
      "a layer's index",
      "a new file",
      "before a layer",
      "the agent's file",
      "the base's content",
      "the base's record",
      "the folder of agents",
      "the folder of bases",
      "the folder of layers",
    ]);
  },
);

const hanging: ImageSources = {
  resolve: async () => ({
    reference: "r",
    digest,
    sizeBytes: 1,
    config: emptyConfig,
    layers: [{ digest, diffId: digest, sizeBytes: 1, compression: "none" }],
  }),
  openBlob: async () => new Readable({ read: () => undefined }),
};

it("gives up an image that takes too long, and makes it when it is asked again", async () => {
  await using work = await scratch();
  const layout = join(work.dir, "layout");
  await writeLayout(layout, image);
  const real = openImageSources({ imageRoots: [layout], insecureRegistries: [] });
  let isSlow = true;
  const sources: ImageSources = {
    resolve: (...asked) => real.resolve(...asked),
    openBlob: (...asked) => (isSlow ? hanging : real).openBlob(...asked),
  };
  await using cache = await openImageCache({ dir: join(work.dir, "cache"), sources, log: silentLog, limitMs: 2000, reserveBytes: 0 });
  await expect(cache.ensure(`oci:${layout}`, digest, never)).rejects.toMatchObject({
    fault: "deadline",
    reason: "IMAGE_TIMEOUT",
    message: "the image was not ready after 2 s: ask again, use a smaller image, or raise PITWALL_IMAGE_TIMEOUT of the node",
  });
  expect(await filesIn(join(work.dir, "cache", "layers"))).toEqual([]);
  expect(await filesIn(join(work.dir, "cache", "bases"))).toEqual([]);
  isSlow = false;
  expect((await cache.ensure(`oci:${layout}`, digest, never)).convertMs).toBeDefined();
});
