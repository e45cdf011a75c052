// Our merging of layers against `umoci unpack`, entry by entry. PITWALL_STACKS raises the number of stacks, PITWALL_SEED moves them.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { Budget, defaultLimits, flatten, LayerStore, openConfinement, writeImage } from "../src/index.ts";
import { differences, treeOf } from "./support/file-tree.ts";
import { imageOf, layerOf, writeLayout, type Compression } from "./support/layout-writer.ts";
import { randomStack } from "./support/random-layers.ts";
import { scratch } from "./support/scratch.ts";
import { tarOf, type TarSpec } from "./support/tar-writer.ts";
import { leaseOf, sourceOf } from "./support/unpack.ts";

const run = promisify(execFile);
const confinement = await openConfinement();
const stacks = Number(process.env["PITWALL_STACKS"] ?? 200);
const firstSeed = Number(process.env["PITWALL_SEED"] ?? 1);
const lanes = 2;
/** Packing and reading back takes longer than all else. */
const squashfsEvery = 8;

type Outcome = { kind: "same" | "documented" } | { kind: "refused"; why: string } | { kind: "different"; lines: string[] };
const compressions: readonly Compression[] = ["gzip", "none", "zstd"];

/** Owners and devices of another tool's tree are real ones. */
const isRoot = process.getuid?.() === 0;

it.skipIf(!isRoot)(
  `merges ${stacks} random stacks as umoci does${isRoot ? "" : " (skipped: it needs root)"}`,
  { timeout: 60_000 + stacks * 1000 },
  async () => {
    await using work = await scratch();
    let next = firstSeed;
    const count = { same: 0, documented: 0, refused: 0, different: 0 };
    const wrong: string[] = [];
    const lane = async (name: string): Promise<void> => {
      while (next < firstSeed + stacks && wrong.length < 5) {
        const seed = next++;
        const dir = join(work.dir, `${name}-${seed}`);
        const outcome = await compare(dir, seed);
        count[outcome.kind]++;
        if (outcome.kind === "different") wrong.push(`seed ${seed}:\n${outcome.lines.join("\n")}`);
        if (outcome.kind === "refused" && process.env["PITWALL_VERBOSE"]) console.info(seed, outcome.why);
        await rm(dir, { recursive: true, force: true });
      }
    };
    await Promise.all(Array.from({ length: lanes }, (_, at) => lane(String(at))));
    console.info(`${stacks} stacks: ${count.same} the same, ${count.documented} as documented, ${count.refused} refused by umoci`);
    expect(wrong.join("\n\n")).toBe("");
    expect(count.refused).toBeLessThan(stacks * 0.1);
  },
);

async function compare(dir: string, seed: number): Promise<Outcome> {
  const stack = randomStack(seed);
  const tars = stack.map(tarOf);
  const ours = join(dir, "ours");
  const extracted = await failureOf(extractOurs(tars, seed, dir, ours));
  const theirs = join(dir, "theirs");
  const unpacked = await failureOf(unpackTheirs(tars, theirs));
  if (unpacked !== undefined) return { kind: "refused", why: `umoci: ${messageOf(unpacked)}\nours: ${messageOf(extracted)}` };
  if (extracted !== undefined) return { kind: "different", lines: [`umoci takes it, and we say ${messageOf(extracted)}`] };
  const ourTree = await treeOf(ours);
  if (seed % squashfsEvery === 0) {
    const lines = differences(ourTree, await treeOf(join(dir, "squashfs")));
    if (lines.length > 0) return { kind: "different", lines: ["from the squashfs:", ...lines] };
  }
  const lines = differences(await treeOf(join(theirs, "rootfs")), ourTree);
  if (lines.length === 0) return { kind: "same" };
  // "Whiteout files MUST only apply to resources in lower/parent layers" (image-spec, layer.md): their place in the layer is no
  // matter. umoci keeps the attributes of a hidden folder when the whiteout comes after an entry below it, and not when before.
  const sorted = join(dir, "sorted");
  const failure = await failureOf(
    unpackTheirs(
      stack.map((layer) => tarOf(whiteoutsFirst(layer))),
      sorted,
    ),
  );
  if (failure !== undefined) return { kind: "different", lines: [...lines, messageOf(failure)] };
  return differences(await treeOf(join(sorted, "rootfs")), ourTree).length === 0 ? { kind: "documented" } : { kind: "different", lines };
}

const whiteoutsFirst = (layer: readonly TarSpec[]): TarSpec[] => [
  ...layer.filter(isWhiteout),
  ...layer.filter((spec) => !isWhiteout(spec)),
];
const isWhiteout = ({ name }: TarSpec): boolean => /(?:^|\/)\.wh\.[^/]*$/.test(name);
const messageOf = (error: unknown): string =>
  error instanceof Error ? `${error.message}${"stderr" in error ? String(error.stderr) : ""}`.slice(0, 1000) : String(error);
const failureOf = (work: Promise<void>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );

/** umoci 0.4 knows no zstd: it gets all layers with gzip. */
async function unpackTheirs(tars: readonly Buffer[], bundle: string): Promise<void> {
  const layout = `${bundle}-layout`;
  await writeLayout(layout, imageOf(tars.map((tar) => layerOf(tar, "gzip"))));
  await run("umoci", ["unpack", "--image", `${layout}:test`, bundle]);
}

async function extractOurs(tars: readonly Buffer[], seed: number, dir: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  const layers = tars.map((tar, at) => layerOf(tar, compressions[(seed + at) % 3] ?? "gzip"));
  await using leased = await leaseOf(join(dir, "layers"), layers);
  const tar = flatten(leased.lease.files, defaultLimits, AbortSignal.timeout(30_000));
  await unpackTar(tar, to);
  if (seed % squashfsEvery !== 0) return;
  const image = join(dir, "image.sqfs");
  const signal = AbortSignal.timeout(30_000);
  const { sources, image: resolved } = sourceOf(layers, 1000);
  await using store = await LayerStore.open({ dir: join(dir, "again"), sources, keepBytes: 2 ** 30, reserveBytes: 0 });
  using pulling = store.begin("test", resolved, new Budget(defaultLimits), signal);
  await writeImage(pulling, image, defaultLimits, confinement, signal);
  await unpackSquashfs(image, join(dir, "squashfs"));
}

/** Reads from the first moment: Node throws away what a child said before it ended and nobody had asked for. */
async function unpackTar(tar: Readable, to: string): Promise<void> {
  const options = ["-p", "--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--delay-directory-restore"];
  const extractor = spawn("tar", ["-x", ...options, "-C", to], { stdio: ["pipe", "ignore", "pipe"] });
  await Promise.all([pipeline(tar, extractor.stdin), endOf(extractor, extractor.stderr)]);
}

/** unsquashfs does not read what tar2sqfs packs with lz4, see docs/decisions/0007. */
async function unpackSquashfs(image: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  const reader = spawn("sqfs2tar", ["--root-becomes", ".", "--no-skip", image], { stdio: ["ignore", "pipe", "pipe"] });
  await Promise.all([endOf(reader, reader.stderr), unpackTar(reader.stdout, to)]);
}

/** Resolves when a process ends well; else rejects with what it said. */
async function endOf(child: ChildProcess, stderr: Readable): Promise<void> {
  let said = "";
  stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
  await once(child, "close");
  if (child.exitCode !== 0) throw new Error(`${child.spawnfile}: ${said}`);
}
