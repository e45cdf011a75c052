// A registry that others wrote (Debian's docker-registry), on loopback.
import { spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

export interface DockerRegistryOptions {
  /** Paths of PEM files; without them it speaks plain HTTP. */
  readonly tls?: { readonly certificate: string; readonly key: string };
  /** The section of its configuration; without it everybody may do everything. */
  readonly auth?: Readonly<Record<string, unknown>>;
}

export interface DockerRegistry extends AsyncDisposable {
  readonly host: string;
}

/** Keeps its images below `dir`, which must be there. It listens when this resolves. */
export async function startDockerRegistry(dir: string, { tls, auth }: DockerRegistryOptions = {}): Promise<DockerRegistry> {
  const config = {
    version: 0.1,
    log: { level: "info", formatter: "text", accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(dir, "registry") } },
    ...(auth && { auth }),
    http: { addr: "127.0.0.1:0", ...(tls && { tls }) },
  };
  await writeFile(join(dir, "registry.json"), JSON.stringify(config)); // JSON is YAML
  const server = spawn("docker-registry", ["serve", join(dir, "registry.json")], { stdio: ["ignore", "ignore", "pipe"] });
  const ended = new Promise<void>((resolve) => server.once("close", () => resolve()));
  const host = await new Promise<string>((resolve, reject) => {
    let said = "";
    server.stderr.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-10_000);
      const at = /listening on (127\.0\.0\.1:\d+)/.exec(said)?.[1];
      if (at !== undefined) resolve(at);
    });
    server.once("error", reject);
    server.once("close", () => reject(new Error(`docker-registry ended: ${said}`)));
  });
  return {
    host,
    async [Symbol.asyncDispose]() {
      server.kill("SIGKILL");
      await ended;
    },
  };
}
