// One OCI layout for all images of the suite: layers are stored once, and each image is a tag.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { copyFile, mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { pack, type Pack } from "tar-stream";

export interface StoredLayer {
  readonly digest: string;
  readonly size: number;
}

interface Described extends StoredLayer {
  readonly mediaType: string;
}

/** `config` of an image configuration, as the image specification spells it. */
export type RunConfig = Readonly<Record<string, unknown>>;

const layerType = "application/vnd.oci.image.layer.v1.tar";
const manifestType = "application/vnd.oci.image.manifest.v1+json";

export class Layouts {
  readonly dir: string;
  readonly #manifests: unknown[] = [];

  private constructor(dir: string) {
    this.dir = dir;
  }

  static async create(dir: string): Promise<Layouts> {
    await mkdir(join(dir, "blobs", "sha256"), { recursive: true });
    await writeFile(join(dir, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
    return new Layouts(dir);
  }

  /** A layer of the entries that `fill` adds. */
  async layer(fill: (tar: Pack) => void): Promise<StoredLayer> {
    const tar = pack();
    fill(tar);
    tar.finalize();
    return this.#put(await buffer(tar), layerType);
  }

  /** A layer that is a tar on disk. */
  async layerOf(file: string): Promise<StoredLayer> {
    const hash = createHash("sha256");
    for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer); // no encoding is set
    const hex = hash.digest("hex");
    await copyFile(file, this.#path(hex));
    return { digest: `sha256:${hex}`, size: (await stat(file)).size };
  }

  /** Adds an image; its reference. */
  async image(tag: string, layers: readonly StoredLayer[], config: RunConfig): Promise<string> {
    const rootfs = { type: "layers", diff_ids: layers.map(({ digest }) => digest) };
    const document = await this.#json({ architecture: "amd64", os: "linux", config, rootfs }, "application/vnd.oci.image.config.v1+json");
    const manifest = { schemaVersion: 2, mediaType: manifestType, config: document, layers: layers.map(described) };
    const annotations = { "org.opencontainers.image.ref.name": tag };
    this.#manifests.push({ ...(await this.#json(manifest, manifestType)), annotations });
    await writeFile(join(this.dir, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: this.#manifests }));
    return `oci:${this.dir}:${tag}`;
  }

  async #json(value: unknown, mediaType: string): Promise<Described> {
    return this.#put(Buffer.from(JSON.stringify(value)), mediaType);
  }

  async #put(content: Buffer, mediaType: string): Promise<Described> {
    const hex = createHash("sha256").update(content).digest("hex");
    await writeFile(this.#path(hex), content);
    return { mediaType, digest: `sha256:${hex}`, size: content.length };
  }

  #path(hex: string): string {
    return join(this.dir, "blobs", "sha256", hex);
  }
}

const described = ({ digest, size }: StoredLayer): Described => ({ mediaType: layerType, digest, size });
