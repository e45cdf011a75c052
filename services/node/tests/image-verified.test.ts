// T-30 of the threat model (C-30): what is not byte by byte what its name, size and type say is refused, wherever it comes from, and leaves
// nothing on the node's disk.
import { execFile } from "node:child_process";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { openImageSources } from "@pitwall/oci";
import { imageOf, layerOf, manifestType, sha256, writeLayout, type WrittenImage } from "@pitwall/oci/tests/support/layout-writer.ts";
import { hastyClock } from "@pitwall/oci/tests/support/patience.ts";
import { repository, startRegistry } from "@pitwall/oci/tests/support/registry-server.ts";
import { scratch } from "@pitwall/oci/tests/support/scratch.ts";
import { tarOf } from "@pitwall/oci/tests/support/tar-writer.ts";
import { PitwallError, silentLog } from "@pitwall/runtime";
import { describe, expect, it } from "vitest";
import { openImageCache } from "../src/images/cache.ts";

const run = promisify(execFile);
const indexType = "application/vnd.oci.image.index.v1+json";
const configType = "application/vnd.oci.image.config.v1+json";

type Json = Record<string, unknown>;
interface Named extends Json {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}
interface Manifest extends Json {
  readonly mediaType: string;
  readonly config: Named;
  readonly layers: readonly Named[];
}

const tar = tarOf([{ name: "a", content: Buffer.from("some words") }]);
const image = imageOf([layerOf(tar, "gzip")]);
const manifest = JSON.parse(image.manifest.toString()) as Manifest; // imageOf wrote it
const layer = image.layers[0]?.stored ?? Buffer.alloc(0);

/** An image as it is served: the index that a name leads to, and all blobs under the digests that are asked for. */
interface Served {
  readonly index: Buffer;
  readonly manifestDigest: string;
  readonly blobs: ReadonlyMap<string, Buffer>;
  /** Who knows the digest already never sees the index. */
  readonly isSeenByIndexOnly?: boolean;
}

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

function served(document: Buffer, named: Partial<Named> = {}): Served {
  const descriptor = { mediaType: manifestType, digest: sha256(document), size: document.length, ...named };
  const annotations = { "org.opencontainers.image.ref.name": "v1" };
  const index = json({ schemaVersion: 2, mediaType: indexType, manifests: [{ ...descriptor, annotations }] });
  return { index, manifestDigest: descriptor.digest, blobs: new Map([...image.blobs, [sha256(document), document]]) };
}

/** The image with other bytes under a name. */
const replaced = (digest: string, content: Buffer): Served => {
  const right = served(image.manifest);
  return { ...right, blobs: new Map([...right.blobs, [digest, content]]) };
};
/** The image with a manifest that says something else; all names are right. */
const saying = (change: Partial<Manifest>): Served => served(json({ ...manifest, ...change }));
const ofConfig = (change: Partial<Named>): Served => saying({ config: { ...manifest.config, ...change } });
const ofLayer = (change: Partial<Named>): Served => saying({ layers: manifest.layers.map((one) => ({ ...one, ...change })) });
const inIndex = (change: Partial<Named>): Served => ({ ...served(image.manifest, change), isSeenByIndexOnly: true });

const withBit = (content: Buffer, at: number): Buffer => {
  const copy = Buffer.from(content);
  copy[at >> 3] = (copy[at >> 3] ?? 0) ^ (1 << (at & 7));
  return copy;
};
/** One bit each of the first byte, one in the middle, and the last. */
const flips = (content: Buffer): Served[] =>
  [0, content.length * 4 + 3, content.length * 8 - 1].map((bit) => replaced(sha256(content), withBit(content, bit)));
/** A bit of the tar, in a layer whose digest and size are right. */
function flippedTar(): Served {
  const { stored, digest } = layerOf(withBit(tar, 512 * 8), "gzip"); // after its header
  const right = ofLayer({ digest, size: stored.length });
  return { ...right, blobs: new Map([...right.blobs, [digest, stored]]) };
}
/** A bit of gzip's header that changes nothing of what comes out. */
const flippedDate = (): Served => replaced(sha256(layer), withBit(layer, 4 * 8));
const short = (content: Buffer): Served => replaced(sha256(content), content.subarray(0, -1));
const long = (content: Buffer): Served => replaced(sha256(content), Buffer.concat([content, Buffer.from("\n")]));

const flipped = /^corrupt: (?:.* should have digest|layer .* is not valid gzip|layer .* ends too early)/;
const otherBytes = /^corrupt: .* should have digest/;
const otherSize = /^corrupt: .* should have \d+ bytes but has \d+/;
const tooShort = /^corrupt: layer .* (?:ends too early|has \d+ bytes, and the registry sends \d+)/;
const tooLong = /^corrupt: layer .* (?:is longer than its|has \d+ bytes, and the registry sends \d+)/;

const cases: readonly (readonly [name: string, variants: readonly (readonly [Served, RegExp])[]])[] = [
  ["1-bit flip in the manifest", flips(image.manifest).map((one) => [one, otherBytes] as const)],
  ["1-bit flip in the config", flips(image.config).map((one) => [one, otherBytes] as const)],
  ["1-bit flip in the layer", [...flips(layer), flippedTar(), flippedDate()].map((one) => [one, flipped] as const)],
  [
    "short manifest",
    [
      [short(image.manifest), otherBytes],
      [inIndex({ size: image.manifest.length + 1 }), otherSize],
    ],
  ],
  [
    "short config",
    [
      [short(image.config), otherBytes],
      [ofConfig({ size: image.config.length + 1 }), otherSize],
    ],
  ],
  [
    "short layer",
    [
      [short(layer), tooShort],
      [ofLayer({ size: layer.length + 1 }), tooShort],
    ],
  ],
  [
    "long manifest",
    [
      [long(image.manifest), otherBytes],
      [inIndex({ size: image.manifest.length - 1 }), otherSize],
    ],
  ],
  [
    "long config",
    [
      [long(image.config), otherBytes],
      [ofConfig({ size: image.config.length - 1 }), otherSize],
    ],
  ],
  [
    "long layer",
    [
      [long(layer), tooLong],
      [ofLayer({ size: layer.length - 1 }), tooLong],
    ],
  ],
  [
    "wrong type of the manifest",
    [
      [saying({ mediaType: configType }), /^corrupt: an image document is not of the type that it says/],
      [saying({ mediaType: indexType }), /^corrupt: an image document is not of the type that it says/],
      [inIndex({ mediaType: indexType }), /^corrupt: an image document is not of the type that it says/],
    ],
  ],
  [
    "wrong type of the config",
    ["application/vnd.oci.empty.v1+json", "application/vnd.cncf.helm.config.v1+json", manifestType].map(
      (mediaType) => [ofConfig({ mediaType }), /^unsupported: the image's configuration has the type ".*", which is no image's/] as const,
    ),
  ],
  [
    "wrong type of the layer",
    [
      [ofLayer({ mediaType: configType }), /^unsupported: a layer has the type ".*", which is not taken/],
      [ofLayer({ mediaType: "application/vnd.oci.image.layer.v1.tar+xz" }), /^unsupported: a layer has the type/],
      [
        ofLayer({ mediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" }),
        /^unsupported: .* a layer that its registry does not hold \(a foreign layer\)/,
      ],
      [ofLayer({ mediaType: "application/vnd.oci.image.layer.v1.tar+zstd" }), /^corrupt: .* not valid zstd/],
      [ofLayer({ mediaType: "application/vnd.oci.image.layer.v1.tar" }), /^corrupt: /],
    ],
  ],
];

interface Source extends AsyncDisposable {
  readonly reference: string;
  readonly roots: readonly string[];
  readonly insecure: readonly string[];
}
type OpenSource = (dir: string, image: Served) => Promise<Source>;

async function layout(dir: string, { index, blobs }: Served): Promise<string> {
  const path = join(dir, "layout");
  await mkdir(path);
  await writeLayout(path, { ...image, blobs } satisfies WrittenImage);
  for (const [digest, content] of blobs) await writeFile(join(path, "blobs", "sha256", digest.slice("sha256:".length)), content);
  await writeFile(join(path, "index.json"), index);
  return path;
}

const doors: readonly (readonly [name: string, open: OpenSource])[] = [
  [
    "a registry",
    async (_, { index, blobs }) => {
      const registry = await startRegistry({ ...image, manifest: index, blobs });
      const close = async (): Promise<void> => registry[Symbol.asyncDispose]();
      return { reference: `${registry.host}/${repository}:v1`, roots: [], insecure: [registry.host], [Symbol.asyncDispose]: close };
    },
  ],
  [
    "a layout",
    async (dir, one) => ({
      reference: `oci:${await layout(dir, one)}:v1`,
      roots: [dir],
      insecure: [],
      [Symbol.asyncDispose]: async () => undefined,
    }),
  ],
  [
    "an archive",
    async (dir, one) => {
      const path = join(dir, "image.tar");
      await run("tar", ["-C", await layout(dir, one), "-cf", path, "index.json", "oci-layout", "blobs"]);
      return { reference: `oci-archive:${path}:v1`, roots: [dir], insecure: [], [Symbol.asyncDispose]: async () => undefined };
    },
  ],
];

/** What a node ends with that is told a name (which is resolved first) or a digest: "taken", or the refusal, which leaves nothing. */
async function outcomeOf(one: Served, open: OpenSource, isPinned: boolean): Promise<string> {
  await using work = await scratch();
  await using source = await open(work.dir, one);
  const dir = join(work.dir, "cache");
  const sources = openImageSources({ imageRoots: source.roots, insecureRegistries: source.insecure, clock: hastyClock() });
  const signal = AbortSignal.timeout(30_000);
  const outcome = await (async () => {
    await using cache = await openImageCache({ dir, sources, log: silentLog, limitMs: 30_000, reserveBytes: 0 });
    try {
      const digest = isPinned ? one.manifestDigest : (await sources.resolve(source.reference, signal)).digest;
      await cache.ensure(source.reference, digest, signal);
      return "taken";
    } catch (error) {
      if (error instanceof PitwallError) return `${error.fault}: ${error.message}`;
      throw error;
    }
  })();
  const left = (await Promise.all(["bases", "layers"].map((name) => readdir(join(dir, name))))).flat();
  expect(left.length).toBe(outcome === "taken" ? 4 : 0);
  return outcome;
}

it("has all twelve cases", () => {
  expect(cases).toHaveLength(12);
  expect(new Set(cases.map(([name]) => name)).size).toBe(12);
});

describe.each(doors)("from %s", (_, open) => {
  it("takes the image as it is", async () => {
    for (const isPinned of [false, true]) expect(await outcomeOf(served(image.manifest), open, isPinned)).toBe("taken");
  });

  it.each(cases)("refuses: %s", async (_name, variants) => {
    for (const [one, message] of variants) {
      expect(await outcomeOf(one, open, false)).toMatch(message);
      if (one.isSeenByIndexOnly !== true) expect(await outcomeOf(one, open, true)).toMatch(message);
    }
  });
});
