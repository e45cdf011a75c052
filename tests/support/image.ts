// Images of Debian packages for tests, made once per content and kept beside the starter image.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./run.ts";

const suite = "bookworm";
const excluded = ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*"];
const buildLimitMs = 280_000;

/** What is in an image beside Debian's essential packages. */
export interface TestImage {
  readonly name: string;
  readonly packages: readonly string[];
  /** Shell lines that run in the new root, as root. */
  readonly setup?: readonly string[];
  /** The image's configuration. */
  readonly config?: Readonly<Record<string, unknown>>;
}

/** The image's reference. */
export async function testImage(cacheDir: string, image: TestImage): Promise<string> {
  const { name, packages, setup = [], config = {} } = image;
  const digest = createHash("sha256").update(JSON.stringify({ packages, setup, config, excluded, suite })).digest("hex");
  const dir = join(cacheDir, "test-images", `${name}-${digest.slice(0, 12)}`);
  const isThere = await stat(join(dir, "index.json")).catch(() => undefined);
  if (isThere) return `oci:${dir}:latest`;
  await mkdir(join(cacheDir, "test-images"), { recursive: true });
  const work = await mkdtemp(join(cacheDir, "test-images", "work-"));
  try {
    const tar = join(work, "root.tar");
    const options = [
      ...["--variant=minbase", "--mode=auto", "--quiet", `--include=${packages.join(",")}`],
      ...excluded.map((path) => `--dpkgopt=path-exclude=${path}`),
      ...setup.map((line) => `--customize-hook=chroot "$1" sh -ec '${line}'`),
    ];
    const made = await run(["mmdebstrap", ...options, suite, tar], { env: { LC_ALL: "C.UTF-8" }, timeoutMs: buildLimitMs });
    if (made.code !== 0) throw new Error(`mmdebstrap failed: ${made.stderr.slice(-2000)}`);
    await writeLayout(work, tar, config);
    await rm(dir, { recursive: true, force: true });
    await rename(join(work, "layout"), dir);
    return `oci:${dir}:latest`;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** A layout with one layer, the tar, which is moved. */
async function writeLayout(work: string, tar: string, config: Readonly<Record<string, unknown>>): Promise<void> {
  const blobs = join(work, "layout", "blobs", "sha256");
  await mkdir(blobs, { recursive: true });
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(tar)) hash.update(chunk as Buffer); // no encoding is set
  const layer = hash.digest("hex");
  const { size } = await stat(tar);
  await rename(tar, join(blobs, layer));
  const put = async (mediaType: string, value: unknown): Promise<{ mediaType: string; digest: string; size: number }> => {
    const content = Buffer.from(JSON.stringify(value));
    const hex = createHash("sha256").update(content).digest("hex");
    await writeFile(join(blobs, hex), content);
    return { mediaType, digest: `sha256:${hex}`, size: content.length };
  };
  const rootfs = { type: "layers", diff_ids: [`sha256:${layer}`] };
  const described = await put("application/vnd.oci.image.config.v1+json", { architecture: "amd64", os: "linux", config, rootfs });
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const layers = [{ mediaType: "application/vnd.oci.image.layer.v1.tar", digest: `sha256:${layer}`, size }];
  const manifest = await put(mediaType, { schemaVersion: 2, mediaType, config: described, layers });
  const named = { ...manifest, annotations: { "org.opencontainers.image.ref.name": "latest" } };
  await writeFile(join(work, "layout", "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  await writeFile(join(work, "layout", "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [named] }));
}

/** Debian with what the clients of SSH expect at the other end, and a user `dev`. It serves /srv on port 8000. */
export const clientsImage: TestImage = {
  name: "clients",
  packages: ["rsync", "git", "python3"],
  setup: ["useradd --create-home --shell /bin/bash --groups games,staff dev", "echo hello from the VM > /srv/hello"],
  config: {
    Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "FROM_IMAGE=yes"],
    Cmd: ["python3", "-m", "http.server", "8000", "--directory", "/srv"],
  },
};
