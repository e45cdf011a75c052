// image: OCI layout → bootable image, against umoci and mksquashfs, and against what Node can do at all: hashing and inflating the layers.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { startDockerRegistry } from "@pitwall/oci/tests/support/docker-registry.ts";
import { command, installPackages, provision, starterImage } from "@pitwall/quickstart";
import { z } from "zod";
import { median, percentile, round, type BenchOptions, type Metric } from "./measure.ts";

const commands = { umoci: "umoci", mksquashfs: "squashfs-tools", skopeo: "skopeo", "docker-registry": "docker-registry" };
const done = z.object({ ms: z.number(), rssKb: z.number() });
const manifestOf = z.object({ layers: z.array(z.object({ digest: z.string(), size: z.number() })) });
const indexOf = z.object({ manifests: z.array(z.object({ digest: z.string() })) });
const ownFiles = 400;
const ownFileBytes = 16_384;

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

/** Converts in a process of its own; one result per reference, in their order. */
async function convert(cache: string, ...references: string[]): Promise<z.output<typeof done>[]> {
  const stdout = await command(process.execPath, [join(import.meta.dirname, "image-worker.ts"), cache, ...references]);
  return stdout
    .trim()
    .split("\n")
    .map((line) => done.parse(JSON.parse(line)));
}

/** The starter image and one more layer of files that nobody else has. */
async function derive(layout: string, to: string, seed: string): Promise<string> {
  await cp(layout, to, { recursive: true });
  const files = join(to, "own");
  await mkdir(files);
  for (let at = 0; at < ownFiles; at++) {
    const block = createHash("sha256").update(`${seed}-${at}`).digest();
    await writeFile(
      join(files, `file-${at}`),
      Buffer.concat(
        Array.from({ length: ownFileBytes / 64 }, () =>
          [block, Buffer.from("some words that pack as text does")].map((part) => part.subarray(0, 32)),
        ).flat(),
      ),
    );
  }
  await command("umoci", ["insert", "--image", `${to}:latest`, files, `/srv/${seed}`]);
  await rm(files, { recursive: true });
  return `oci:${to}:latest`;
}

async function layersOf(layout: string): Promise<{ path: string; size: number }[]> {
  const read = async (name: string): Promise<unknown> => JSON.parse(await readFile(join(layout, name), "utf8"));
  const blob = (digest: string): string => join("blobs", "sha256", digest.slice("sha256:".length));
  const { manifests } = indexOf.parse(await read("index.json"));
  const { layers } = manifestOf.parse(await read(blob(manifests[0]?.digest ?? "")));
  return layers.map(({ digest, size }) => ({ path: join(layout, blob(digest)), size }));
}

/** Hashes and inflates all layers at once, and hashes what comes out: nothing that verifies an image in Node is quicker. */
async function nodeLimit(layers: readonly { path: string }[]): Promise<void> {
  await Promise.all(
    layers.map(async ({ path }) => {
      const [stored, raw] = [createHash("sha256"), createHash("sha256")];
      await pipeline(
        createReadStream(path, { highWaterMark: 1 << 18 }),
        async function* hashed(chunks: AsyncIterable<Buffer>) {
          for await (const chunk of chunks) {
            stored.update(chunk);
            yield chunk;
          }
        },
        createGunzip({ chunkSize: 1 << 18 }),
        raw,
      );
    }),
  );
}

/** A registry on loopback with the image in it. */
async function serve(dir: string, layout: string): Promise<AsyncDisposable & { reference: string }> {
  const registry = await startDockerRegistry(dir);
  await command("skopeo", [
    "copy",
    "--quiet",
    "--retry-times",
    "5",
    "--dest-tls-verify=false",
    `oci:${layout}:latest`,
    `docker://${registry.host}/bench:1`,
  ]);
  return { ...registry, reference: `${registry.host}/bench:1` };
}

export async function image({ quick, say }: BenchOptions): Promise<Readonly<Record<string, Metric>>> {
  const rounds = quick ? 2 : 8;
  await using parts = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "pitwall-bench-"));
  parts.defer(() => rm(dir, { recursive: true, force: true }));
  const { cacheDir } = await provision(say);
  await installPackages(commands, say);
  const starter = await starterImage(cacheDir, say, new AbortController().signal);
  const [layout, sibling] = [join(dir, "one"), join(dir, "two")];
  const first = await derive(starter, layout, "one");
  const second = await derive(starter, sibling, "two");
  const layers = await layersOf(layout);
  const largest = Math.max(...layers.map(({ size }) => size));
  const registry = parts.use(await serve(dir, layout));

  const [peer, limit, ours, shared, cached, pulled]: number[][] = [[], [], [], [], [], []];
  const rss: number[] = [];
  for (let at = 0; at < rounds; at++) {
    const [work, cache, pullCache] = [join(dir, "work"), join(dir, "cache"), join(dir, "pull-cache")];
    await mkdir(work);
    peer!.push(
      await timed(async () => {
        await command("umoci", ["unpack", "--image", `${layout}:latest`, join(work, "bundle")]);
        await command("mksquashfs", [join(work, "bundle", "rootfs"), join(work, "root.sqfs"), "-comp", "lz4", "-quiet", "-no-progress"]);
      }),
    );
    limit!.push(await timed(() => nodeLimit(layers)));
    const [one, two] = await convert(cache, first, second);
    const [again] = await convert(cache, first);
    const [overTheWire] = await convert(pullCache, registry.reference);
    if (!one || !two || !again || !overTheWire) throw new Error("a conversion gave no result");
    ours!.push(one.ms);
    shared!.push(two.ms);
    cached!.push(again.ms);
    pulled!.push(overTheWire.ms);
    rss.push(one.rssKb / 1024);
    await Promise.all([work, cache, pullCache].map((path) => rm(path, { recursive: true })));
    say(
      `${at + 1}/${rounds}: ours ${Math.round(one.ms)} ms, umoci + mksquashfs ${Math.round(peer!.at(-1) ?? 0)} ms, Node's limit ${Math.round(limit!.at(-1) ?? 0)} ms`,
    );
  }

  const ratio = (over: readonly number[], under: readonly number[], goal: number, more: boolean, raw: Record<string, number>): Metric => {
    const ratios = over.map((value, at) => value / (under[at] ?? NaN));
    const value = round(median(ratios));
    return {
      value,
      p95: round(percentile(ratios, 0.95)),
      unit: "ratio",
      goal,
      ok: more ? value >= goal : value <= goal,
      n: ratios.length,
      raw,
    };
  };
  const ms = (values: readonly number[]): number => round(median(values));
  const oursMs = ms(ours!);
  const smallMb = 160;
  const rssGoal = Math.max(smallMb, round((0.15 * largest) / 2 ** 20));
  return {
    vs_umoci: ratio(peer!, ours!, 5, true, { ours_ms: oursMs, umoci_mksquashfs_ms: ms(peer!) }),
    vs_node_limit: ratio(ours!, limit!, 1.15, false, { ours_ms: oursMs, node_limit_ms: ms(limit!) }),
    shared_layers: ratio(shared!, ours!, 0.3, false, { second_image_ms: ms(shared!), first_image_ms: oursMs }),
    cached: ratio(cached!, ours!, 0.01, false, { cached_ms: ms(cached!), first_image_ms: oursMs }),
    pull_overlap: ratio(pulled!, ours!, 1.1, false, { pull_and_convert_ms: ms(pulled!), convert_ms: oursMs }),
    peak_rss_mb: {
      value: round(median(rss)),
      unit: "MiB",
      goal: rssGoal,
      ok: median(rss) <= rssGoal,
      n: rss.length,
      raw: { largest_layer_mb: round(largest / 2 ** 20) },
    },
  };
}
