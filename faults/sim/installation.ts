// What a thread of the campaign needs: a PostgreSQL server, and an image that controllers can resolve.
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEmbeddedPostgres, type PostgresSettings } from "@pitwall/controller/src/store/embedded-postgres.ts";
import { silentLog } from "@pitwall/runtime";

export interface Installation extends AsyncDisposable {
  readonly databaseUrl: string;
  readonly image: string;
}

/** The server does not lose power here: nothing need be on the disk. What has committed is seen all the same. */
const settings: PostgresSettings = {
  ...{ fsync: "off", synchronous_commit: "off", full_page_writes: "off", wal_level: "minimal", max_wal_senders: 0 },
  ...{ shared_buffers: "128MB", max_connections: 200, jit: "off", autovacuum: "off", checkpoint_timeout: "1h", max_wal_size: "1GB" },
  unix_socket_directories: ".", // of the data folder: a socket there costs less than TCP
};

/** `path` is where commands are found. */
export async function openInstallation(path: string): Promise<Installation> {
  await using parts = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "pitwall-faults-"));
  parts.defer(() => rm(dir, { recursive: true, force: true }));
  const image = await writeLayout(join(dir, "image"));
  const postgresDir = join(dir, "postgres");
  const { url } = parts.use(await openEmbeddedPostgres(postgresDir, path, silentLog, settings));
  const done = parts.move();
  return { databaseUrl: bySocket(url, join(postgresDir, "data")), image, [Symbol.asyncDispose]: () => done.disposeAsync() };
}

/** The same server by its socket. */
function bySocket(url: string, socketDir: string): string {
  return url.replace(/@[^:/]+/, `@${encodeURIComponent(socketDir)}`);
}

/** An image of one empty layer; nothing here unpacks it. */
async function writeLayout(dir: string): Promise<string> {
  const blobs = join(dir, "blobs", "sha256");
  await mkdir(blobs, { recursive: true });
  const put = async (mediaType: string, content: Buffer): Promise<{ mediaType: string; digest: string; size: number }> => {
    const hex = createHash("sha256").update(content).digest("hex");
    await writeFile(join(blobs, hex), content);
    return { mediaType, digest: `sha256:${hex}`, size: content.length };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const layer = await put("application/vnd.oci.image.layer.v1.tar", Buffer.alloc(1024));
  const rootfs = { type: "layers", diff_ids: [layer.digest] };
  const content = json({ architecture: "amd64", os: "linux", config: { Cmd: ["/bin/true"] }, rootfs });
  const config = await put("application/vnd.oci.image.config.v1+json", content);
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = await put(mediaType, json({ schemaVersion: 2, mediaType, config, layers: [layer] }));
  await writeFile(join(dir, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  await writeFile(join(dir, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
  return `oci:${dir}`;
}
