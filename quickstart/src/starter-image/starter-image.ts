// The image that `npm start` boots: Debian, then nginx, then a page of our own; three layers, with whiteouts.
import { createHash } from "node:crypto";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { exists } from "@pitwall/runtime";
import { withProgress, type Say } from "../progress.ts";
import { withLock } from "../provision/cache.ts";
import { command } from "../provision/command.ts";
import { add, addAll, addDifference, imageDate, writeLayer, type Layer } from "./layers.ts";

/** Counts up with each change of what is in it. */
const edition = 1;
const suite = "bookworm";
const excluded = ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*"];

const site = `server {
  listen 80 default_server;
  root /srv/www;
  location / { try_files $uri $uri/ =404; }
}
`;
const page = `<!doctype html>
<html lang="en">
<title>Pitwall</title>
<p>This page comes out of a microVM that was an OCI image a moment ago.</p>
</html>
`;

/** Makes the image, unless it is there; the folder of its OCI layout. */
export async function starterImage(cacheDir: string, say: Say, signal: AbortSignal): Promise<string> {
  const dir = join(cacheDir, `starter-${edition}`);
  if (await exists(join(dir, "index.json"))) return dir;
  return withLock(join(cacheDir, "starter-work"), say, () => make(dir, join(cacheDir, "starter-work", "image"), say, signal));
}

/** `work` is made anew: what a killed run left there goes. */
async function make(dir: string, work: string, say: Say, signal: AbortSignal): Promise<string> {
  if (await exists(join(dir, "index.json"))) return dir; // another process made it meanwhile
  return withProgress(say, "making the starter image (Debian with nginx)", () => build(dir, work, signal));
}

async function build(dir: string, work: string, signal: AbortSignal): Promise<string> {
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  try {
    const [base, full] = [join(work, "base.tar"), join(work, "full.tar")];
    await Promise.all([debian(base, [], signal), debian(full, ["nginx-light"], signal)]);
    const layers = [
      await writeLayer(join(work, "1"), (tar) => addAll(tar, base)),
      await writeLayer(join(work, "2"), (tar) => addDifference(tar, base, full)),
      await writeLayer(join(work, "3"), async (tar) => {
        await add(tar, { name: "etc/nginx/sites-enabled/.wh.default", type: "file", mode: 0o644 });
        await add(tar, { name: "var/www/.wh.html", type: "file", mode: 0o644 });
        await add(tar, { name: "srv/www", type: "directory", mode: 0o755 });
        await add(tar, { name: "srv/www/index.html", type: "file", mode: 0o644 }, Buffer.from(page));
        await add(tar, { name: "etc/nginx/conf.d/pitwall.conf", type: "file", mode: 0o644 }, Buffer.from(site));
      }),
    ];
    const layout = join(work, "layout");
    await writeLayout(layout, layers);
    await rm(dir, { recursive: true, force: true });
    await rename(layout, dir);
    return dir;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function debian(to: string, include: readonly string[], signal: AbortSignal): Promise<void> {
  const options = [
    ...["--variant=minbase", "--mode=auto", "--quiet"],
    ...(include.length > 0 ? [`--include=${include.join(",")}`] : []),
    ...excluded.map((path) => `--dpkgopt=path-exclude=${path}`),
  ];
  await command("mmdebstrap", [...options, suite, to], {
    env: { SOURCE_DATE_EPOCH: String(imageDate.getTime() / 1000), LC_ALL: "C.UTF-8" },
    signal,
  });
}

async function writeLayout(dir: string, layers: readonly Layer[]): Promise<void> {
  const blobs = join(dir, "blobs", "sha256");
  await mkdir(blobs, { recursive: true });
  for (const layer of layers) await rename(layer.path, join(blobs, layer.digest));
  const put = async (mediaType: string, value: unknown): Promise<{ mediaType: string; digest: string; size: number }> => {
    const content = Buffer.from(JSON.stringify(value));
    const digest = createHash("sha256").update(content).digest("hex");
    await writeFile(join(blobs, digest), content);
    return { mediaType, digest: `sha256:${digest}`, size: content.length };
  };
  const config = await put("application/vnd.oci.image.config.v1+json", {
    created: imageDate.toISOString(),
    architecture: "amd64",
    os: "linux",
    config: {
      Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
      Cmd: ["nginx", "-g", "daemon off;"],
      ExposedPorts: { "80/tcp": {} },
      StopSignal: "SIGQUIT",
      WorkingDir: "/",
      Labels: { "org.opencontainers.image.title": "Pitwall starter" },
    },
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => `sha256:${diffId}`) },
  });
  const manifest = await put("application/vnd.oci.image.manifest.v1+json", {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config,
    layers: layers.map(({ digest, size }) => ({
      mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
      digest: `sha256:${digest}`,
      size,
    })),
  });
  await writeFile(join(dir, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  const named = {
    ...manifest,
    platform: { os: "linux", architecture: "amd64" },
    annotations: { "org.opencontainers.image.ref.name": "latest" },
  };
  await writeFile(join(dir, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [named] })); // last: it tells that all is there
}
