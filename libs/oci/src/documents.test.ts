import { expect, it } from "vitest";
import { imageOf, layerOf, manifestType, sha256, type WrittenImage } from "../tests/support/layout-writer.ts";
import { tarOf } from "../tests/support/tar-writer.ts";
import { toImage } from "./documents.ts";
import type { ResolvedImage } from "./image.ts";

const indexType = "application/vnd.oci.image.index.v1+json";
const image = imageOf([layerOf(tarOf([{ name: "a" }]), "gzip")]);
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const configType = "application/vnd.oci.image.config.v1+json";
const amd64 = { os: "linux", architecture: "amd64" };

/** Resolves `top`; what it names is found among `blobs`. */
function resolve(top: Buffer, ...blobs: readonly Buffer[]): Promise<ResolvedImage> {
  const found = new Map([...image.blobs, ...blobs.map((content) => [sha256(content), content] as const)]);
  return toImage("example/app", top, sha256(top), async ({ digest }) => found.get(digest) ?? Buffer.from("{}"));
}

/** The manifest with parts replaced. */
function altered(change: Record<string, unknown>): Buffer {
  return json({ ...(JSON.parse(image.manifest.toString()) as Record<string, unknown>), ...change }); // written by imageOf
}

/** A manifest for a configuration of its own. */
function configured(change: Record<string, unknown>): { manifest: Buffer; config: Buffer } {
  const config = json({ ...(JSON.parse(image.config.toString()) as Record<string, unknown>), ...change }); // written by imageOf
  return { config, manifest: altered({ config: { mediaType: configType, digest: sha256(config), size: config.length } }) };
}

const named = (content: Buffer, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  mediaType: manifestType,
  digest: sha256(content),
  size: content.length,
  ...more,
});

it("reads a manifest", async () => {
  const [layer] = image.layers;
  expect(await resolve(image.manifest)).toMatchObject({
    digest: sha256(image.manifest),
    sizeBytes: layer?.stored.length,
    config: { cmd: ["/bin/true"], env: [], user: "" },
    layers: [{ digest: layer?.digest, diffId: layer?.diffId, compression: "gzip" }],
  });
});

it("chooses linux/amd64 of an index, and of its variants the one that runs everywhere", async () => {
  const index = json({
    manifests: [
      named(Buffer.from("arm"), { platform: { os: "linux", architecture: "arm64" } }),
      named(Buffer.from("v3"), { platform: { ...amd64, variant: "v3" } }),
      named(image.manifest, { platform: amd64 }),
      named(Buffer.from("proof"), { platform: { os: "unknown", architecture: "unknown" } }),
    ],
  });
  expect((await resolve(index)).digest).toBe(sha256(image.manifest));
});

it("follows indexes in indexes, to a depth", async () => {
  let top = image.manifest;
  const all: Buffer[] = [];
  for (let depth = 0; depth < 4; depth++) {
    top = json({ manifests: [named(top, { mediaType: depth === 0 ? manifestType : indexType, platform: amd64 })] });
    all.push(top);
  }
  expect((await resolve(top, ...all)).digest).toBe(sha256(image.manifest));
  await expect(resolve(json({ manifests: [named(top, { mediaType: indexType, platform: amd64 })] }), ...all)).rejects.toThrow(
    "the image has indexes more than 4 deep",
  );
});

it("says which platforms there are when none fits", async () => {
  const index = json({ manifests: [named(image.manifest, { platform: { os: "linux", architecture: "s390x" } })] });
  await expect(resolve(index)).rejects.toThrow("image: example/app is for linux/s390x; Pitwall runs linux/amd64");
  const { manifest, config } = configured({ architecture: "arm64" });
  await expect(resolve(manifest, config)).rejects.toThrow("image: example/app is for linux/arm64; Pitwall runs linux/amd64");
});

it.each([
  ["both an index and a manifest", { manifests: [] }],
  ["a manifest that calls itself an index", { mediaType: indexType }],
])("refuses %s", async (_, change) => {
  await expect(resolve(altered(change))).rejects.toThrow("an image document is not of the type that it says it is");
});

it("refuses schema 1", async () => {
  await expect(resolve(json({ schemaVersion: 1, fsLayers: [] }))).rejects.toThrow("the image has an old or unknown manifest format");
});

it.each([
  "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
  "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
  "application/vnd.oci.image.layer.nondistributable.v1.tar",
])("refuses a layer of type %s, which its registry does not hold", async (mediaType) => {
  const layers = [{ mediaType, digest: image.layers[0]?.digest, size: 1, urls: ["http://169.254.169.254/"] }];
  await expect(resolve(altered({ layers }))).rejects.toThrow("the image has a layer that its registry does not hold (a foreign layer)");
});

it.each(["application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", ""])(
  "refuses a layer of the unknown type %j",
  async (mediaType) => {
    const layers = [{ mediaType, digest: image.layers[0]?.digest, size: 1 }];
    await expect(resolve(altered({ layers }))).rejects.toThrow(`a layer has the type ${JSON.stringify(mediaType)}, which is not taken`);
  },
);

it.each([
  ["application/vnd.oci.image.layer.v1.tar", "none"],
  ["application/vnd.oci.image.layer.v1.tar+gzip", "gzip"],
  ["application/vnd.oci.image.layer.v1.tar+zstd", "zstd"],
  ["application/vnd.docker.image.rootfs.diff.tar", "none"],
  ["application/vnd.docker.image.rootfs.diff.tar.gzip", "gzip"],
  ["application/vnd.docker.image.rootfs.diff.tar.zstd", "zstd"],
])("takes a layer of type %s", async (mediaType, compression) => {
  const layers = [{ mediaType, digest: image.layers[0]?.digest, size: 1 }];
  expect((await resolve(altered({ layers }))).layers[0]?.compression).toBe(compression);
});

it("refuses more layers than others take, and layers that do not match the configuration", async () => {
  const layer = { mediaType: "application/vnd.oci.image.layer.v1.tar", digest: image.layers[0]?.digest, size: 1 };
  await expect(resolve(altered({ layers: Array.from({ length: 128 }, () => layer) }))).rejects.toThrow(
    "the image has 128 layers; the limit is 127",
  );
  await expect(resolve(altered({ layers: [] }))).rejects.toThrow("the image has 0 layers and 1 diff ids");
});

it("refuses a configuration of another size or digest than the manifest says", async () => {
  const size = { ...named(image.config, { mediaType: configType }), size: image.config.length + 1 };
  await expect(resolve(altered({ config: size }))).rejects.toThrow(
    `the image's configuration should have ${image.config.length + 1} bytes but has ${image.config.length}`,
  );
  await expect(resolve(altered({ config: named(Buffer.from("other"), { mediaType: configType }) }))).rejects.toThrow(
    "the image's configuration should have digest",
  );
});

it.each(["sha256:ABC", "sha512:" + "0".repeat(128), "../../etc/passwd", ""])("refuses the digest %j", async (digest) => {
  await expect(resolve(altered({ config: { mediaType: "", digest, size: 1 } }))).rejects.toThrow("the image manifest cannot be understood");
});

it.each([
  ["Env", ["A=b\0c"]],
  ["Cmd", ["a\0b"]],
  ["Entrypoint", ["\0"]],
  ["User", "root\0"],
  ["WorkingDir", "/\0"],
  ["StopSignal", "TERM\0"],
])("refuses a zero byte in %s", async (key, value) => {
  const { manifest, config } = configured({ config: { [key]: value } });
  await expect(resolve(manifest, config)).rejects.toThrow("the image configuration cannot be understood");
});

it("takes null where the specification allows nothing", async () => {
  const change = { config: { Entrypoint: null, Cmd: null, Env: null, ExposedPorts: null, Labels: null } };
  const { manifest, config } = configured(change);
  expect((await resolve(manifest, config)).config).toMatchObject({ entrypoint: [], cmd: [], env: [], labels: {} });
});

it("refuses what is no JSON, and what is no object", async () => {
  for (const text of ["", "{", "null", "[]", "7", '"a"']) {
    await expect(resolve(Buffer.from(text)), text).rejects.toThrow(/image manifest cannot be understood|old or unknown manifest format/);
  }
});

it("takes an image without layers", async () => {
  const empty: WrittenImage = imageOf([]);
  expect((await resolve(empty.manifest, empty.config)).layers).toEqual([]);
});
