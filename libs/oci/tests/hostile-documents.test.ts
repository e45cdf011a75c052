// Layouts and archives that are made to do harm, or broken, read through the door that services use.
import { execFile } from "node:child_process";
import { mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { PitwallError } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { Budget, defaultLimits, LayerStore, openImageSources } from "../src/index.ts";
import { imageOf, layerOf, manifestType, sha256, writeLayout, type WrittenImage } from "./support/layout-writer.ts";
import { maxRefusalMs } from "./support/outcome.ts";
import { scratch } from "./support/scratch.ts";
import { tarOf, type TarSpec } from "./support/tar-writer.ts";

const run = promisify(execFile);
const image = imageOf([layerOf(tarOf([{ name: "a", content: Buffer.from("x") }]), "gzip")]);
const layer = image.layers[0] ?? layerOf(Buffer.alloc(0), "none");
const hex = (content: Buffer): string => sha256(content).slice("sha256:".length);
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const flipped = (content: Buffer): Buffer => Buffer.from(content.map((byte, at) => (at === content.length >> 1 ? byte ^ 1 : byte)));

/** What pulling the reference ends with: "taken", or the refusal, which must be ours and in time. */
async function outcomeOf(root: string, reference: string): Promise<string> {
  const sources = openImageSources({ imageRoots: [root], insecureRegistries: [] });
  const signal = AbortSignal.timeout(20_000);
  const dir = join(root, "layers");
  const started = performance.now();
  try {
    await using store = await LayerStore.open({ dir, sources, keepBytes: 2 ** 30, reserveBytes: 0 });
    const resolved = await sources.resolve(reference, signal);
    using _ = await store.lease(reference, resolved, new Budget(defaultLimits), signal);
    return "taken";
  } catch (error) {
    expect(performance.now() - started).toBeLessThan(maxRefusalMs);
    expect((await readdir(dir)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    if (error instanceof PitwallError) return `${error.fault}: ${error.message}`;
    throw error;
  }
}

/** A layout of the image, with blobs replaced under the names they had. */
async function layoutWith(
  dir: string,
  blobs: readonly (readonly [digest: string, content: Buffer])[],
  from: WrittenImage = image,
): Promise<void> {
  await writeLayout(dir, from);
  for (const [digest, content] of blobs) await writeFile(join(dir, "blobs", "sha256", digest.slice("sha256:".length)), content);
}

it.each<[string, readonly (readonly [string, Buffer])[], RegExp]>([
  [
    "a flipped bit in the manifest",
    [[sha256(image.manifest), flipped(image.manifest)]],
    /corrupt: the image's manifest should have digest/,
  ],
  [
    "a flipped bit in the configuration",
    [[sha256(image.config), flipped(image.config)]],
    /corrupt: the image's configuration should have digest/,
  ],
  ["a flipped bit in the layer", [[layer.digest, flipped(layer.stored)]], /corrupt: /],
  ["a short layer", [[layer.digest, layer.stored.subarray(0, -1)]], /corrupt: .* ends too early/],
  ["an empty layer", [[layer.digest, Buffer.alloc(0)]], /corrupt: .* ends too early/],
  ["a long layer", [[layer.digest, Buffer.concat([layer.stored, layer.stored])]], /corrupt: layer .* is longer than/],
  ["a short manifest", [[sha256(image.manifest), image.manifest.subarray(0, -1)]], /corrupt: the image's manifest should have digest/],
  ["an endless configuration", [[sha256(image.config), Buffer.alloc(5 * 2 ** 20, "[")]], /corrupt: an image document has 5242880 bytes/],
])("refuses a layout with %s", async (_, blobs, message) => {
  await using work = await scratch();
  const dir = join(work.dir, "layout");
  await layoutWith(dir, blobs);
  expect(await outcomeOf(work.dir, `oci:${dir}`)).toMatch(message);
});

it.each<[string, Buffer, RegExp]>([
  ["no JSON", Buffer.from("{"), /corrupt: the image index cannot be understood/],
  ["brackets 4 million deep", Buffer.alloc(4_000_000, "["), /corrupt: the image index cannot be understood/],
  ["5 MiB", Buffer.alloc(5 * 2 ** 20, " "), /corrupt: an image document has 5242880 bytes/],
  [
    "a digest that is a path",
    json({ manifests: [{ mediaType: manifestType, digest: "sha256:../../../etc/passwd", size: 1 }] }),
    /corrupt: the image index cannot be understood/,
  ],
  [
    "2,000 manifests",
    json({ manifests: Array.from({ length: 2000 }, () => ({ mediaType: manifestType, digest: sha256(image.manifest), size: 1 })) }),
    /corrupt: the image index cannot be understood/,
  ],
  ["no manifests", json({ manifests: [] }), /not-found: .* the layout holds no image/],
  [
    "a size that is wrong",
    json({ manifests: [{ mediaType: manifestType, digest: sha256(image.manifest), size: 7 }] }),
    /corrupt: the image's manifest should have 7 bytes/,
  ],
  [
    "a negative size",
    json({ manifests: [{ mediaType: manifestType, digest: sha256(image.manifest), size: -1 }] }),
    /corrupt: the image index cannot be understood/,
  ],
])("refuses a layout whose index is %s", async (_, content, message) => {
  await using work = await scratch();
  const dir = join(work.dir, "layout");
  await layoutWith(dir, []);
  await writeFile(join(dir, "index.json"), content);
  expect(await outcomeOf(work.dir, `oci:${dir}`)).toMatch(message);
});

it("refuses a pipe, a folder and a device where a blob should be, and does not wait for them", async () => {
  await using work = await scratch();
  const blob = (dir: string): string => join(dir, "blobs", "sha256", hex(layer.stored));
  const makers: readonly ((path: string) => Promise<unknown>)[] = [
    (path) => run("mkfifo", [path]),
    (path) => mkdir(path),
    (path) => symlink("/dev/zero", path),
  ];
  for (const [at, make] of makers.entries()) {
    const dir = join(work.dir, `layout-${at}`);
    await layoutWith(dir, []);
    await run("rm", [blob(dir)]);
    await make(blob(dir));
    expect(await outcomeOf(work.dir, `oci:${dir}`)).toMatch(/not-found: .* there is no such file, or it lacks a part of the image/);
  }
});

it("refuses paths outside the folders that an administrator named, by links and by dots", async () => {
  await using work = await scratch();
  await using outside = await scratch();
  await layoutWith(join(outside.dir, "layout"), []);
  await symlink(outside.dir, join(work.dir, "link"));
  for (const path of [
    join(outside.dir, "layout"),
    `${work.dir}/link/layout`,
    `${work.dir}/../${outside.dir.split("/").at(-1)}/layout`,
    "/etc",
    "/proc/self/root",
  ]) {
    expect(await outcomeOf(work.dir, `oci:${path}`)).toMatch(/invalid: .* is not below a folder that PITWALL_IMAGE_ROOTS allows/);
  }
});

const archived = (name: string, content: Buffer): TarSpec => ({ name, content });
const dockerManifest = (entry: Record<string, unknown>): Buffer =>
  json([{ Config: "config.json", RepoTags: ["app:1"], Layers: ["layer.tar"], ...entry }]);
const plainTar = tarOf([{ name: "a", content: Buffer.from("x") }]);
const plain = imageOf([layerOf(plainTar, "none")]);

it.each<[string, readonly TarSpec[], RegExp]>([
  ["no manifest", [archived("a", Buffer.from("x"))], /not-found: .* it has no manifest.json/],
  ["no configuration", [archived("manifest.json", dockerManifest({}))], /corrupt: the archive lacks the image's configuration/],
  [
    "a configuration outside",
    [archived("manifest.json", dockerManifest({ Config: "../../etc/passwd" }))],
    /corrupt: the archive lacks the image's configuration/,
  ],
  [
    "no layer",
    [archived("manifest.json", dockerManifest({})), archived("config.json", plain.config)],
    /corrupt: the archive lacks a layer/,
  ],
  [
    "another layer",
    [
      archived("manifest.json", dockerManifest({})),
      archived("config.json", plain.config),
      archived("layer.tar", tarOf([{ name: "b", content: Buffer.from("y") }])),
    ],
    /corrupt: a layer should have digest/,
  ],
  [
    "a layer that is a link to itself",
    [
      archived("manifest.json", dockerManifest({})),
      archived("config.json", plain.config),
      { name: "layer.tar", flag: "2", linkname: "layer.tar" },
    ],
    /corrupt: the archive lacks a layer/,
  ],
  [
    "a layer that is a link out",
    [
      archived("manifest.json", dockerManifest({})),
      archived("config.json", plain.config),
      { name: "layer.tar", flag: "2", linkname: "../../../etc/passwd" },
    ],
    /corrupt: the archive lacks a layer/,
  ],
  ["a manifest of 5 MiB", [archived("manifest.json", Buffer.alloc(5 * 2 ** 20, " "))], /corrupt: an image document has 5242880 bytes/],
  [
    "200 layers",
    [
      archived("manifest.json", dockerManifest({ Layers: Array.from({ length: 200 }, () => "layer.tar") })),
      archived("config.json", plain.config),
    ],
    /corrupt: the archive's manifest.json cannot be understood/,
  ],
])("refuses a docker archive with %s", async (_, specs, message) => {
  await using work = await scratch();
  const path = join(work.dir, "image.tar");
  await writeFile(path, tarOf(specs));
  expect(await outcomeOf(work.dir, `docker-archive:${path}`)).toMatch(message);
});

it("takes docker archives of all ages", async () => {
  await using work = await scratch();
  const config = archived("config.json", plain.config);
  const old = [
    archived("manifest.json", dockerManifest({ Layers: ["1/layer.tar"] })),
    config,
    archived("0/layer.tar", plainTar),
    { name: "1/layer.tar", flag: "2", linkname: "../0/layer.tar" },
  ];
  const gzipped = imageOf([layerOf(plainTar, "gzip")]);
  const blobs = [...gzipped.blobs].map(([digest, content]) => archived(`blobs/sha256/${digest.slice("sha256:".length)}`, content));
  const names = {
    Config: `blobs/sha256/${hex(gzipped.config)}`,
    Layers: gzipped.layers.map(({ stored }) => `blobs/sha256/${hex(stored)}`),
  };
  const recent = [archived("manifest.json", dockerManifest(names)), ...blobs];
  for (const [name, specs] of Object.entries({ old, recent })) {
    await writeFile(join(work.dir, name), tarOf(specs));
    expect(await outcomeOf(work.dir, `docker-archive:${join(work.dir, name)}:app:1`)).toBe("taken");
  }
  const layout = [
    archived(
      "index.json",
      json({
        manifests: [
          {
            mediaType: manifestType,
            digest: sha256(gzipped.manifest),
            size: gzipped.manifest.length,
            annotations: { "org.opencontainers.image.ref.name": "v1" },
          },
        ],
      }),
    ),
    ...blobs,
  ];
  await writeFile(join(work.dir, "oci.tar"), tarOf(layout));
  expect(await outcomeOf(work.dir, `oci-archive:${join(work.dir, "oci.tar")}:v1`)).toBe("taken");
  expect(await outcomeOf(work.dir, `oci-archive:${join(work.dir, "old")}`)).toMatch(/not-found: .* the file is no OCI archive/);
});

it("says what to do with a compressed archive, and with what is no archive", async () => {
  await using work = await scratch();
  const path = join(work.dir, "image.tar.gz");
  await writeFile(path, layerOf(plainTar, "gzip").stored);
  expect(await outcomeOf(work.dir, `docker-archive:${path}`)).toMatch(/unsupported: the archive is compressed with gzip; unpack it once/);
  await writeFile(path, Buffer.alloc(10_000, "noise"));
  expect(await outcomeOf(work.dir, `docker-archive:${path}`)).toMatch(/corrupt: a tar header has/);
});
