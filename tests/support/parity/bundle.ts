// What runc runs: umoci's runtime configuration for an image, with the defaults of common engines.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../run.ts";
import type { RunConfig } from "./layouts.ts";

interface RuntimeConfig {
  root: { path: string; readonly?: boolean };
  process: { terminal: boolean; args: string[]; env: string[]; noNewPrivileges: boolean; rlimits: unknown[]; capabilities: unknown };
  hostname: string;
  mounts: { destination: string; type?: string; source: string; options: string[] }[];
  annotations?: Record<string, string>;
}

export interface ContainerOptions {
  readonly layout: string;
  readonly tag: string;
  readonly image: RunConfig;
  /** The image's files, as umoci unpacks them; they are copied. */
  readonly rootfs: string;
  /** A folder that is not there yet. */
  readonly dir: string;
  readonly hostname: string;
  /** Of the root file system; no part of an image. */
  readonly isReadOnly?: boolean;
  /** Content of the files that an engine puts over the image's, by name below /etc. */
  readonly etc: Readonly<Record<string, string>>;
}

/** As Docker and containerd have it. */
const capabilities = [
  ...["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP"],
  ...["NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"],
].map((name) => `CAP_${name}`);

/** Makes the bundle in `dir`. What umoci refuses, such as an unknown user, is in `refusal`. */
export async function makeBundle(options: ContainerOptions): Promise<{ stopSignal: string; refusal?: string }> {
  const { layout, tag, rootfs, dir } = options;
  await mkdir(dir, { recursive: true });
  await run(["cp", "-a", rootfs, join(dir, "rootfs")]);
  const file = join(dir, "config.json");
  const made = await run(["umoci", "raw", "runtime-config", "--image", `${layout}:${tag}`, "--rootfs", join(dir, "rootfs"), file]);
  if (made.code !== 0) return { stopSignal: "", refusal: made.stderr };
  const config = await asEngine(JSON.parse(await readFile(file, "utf8")) as RuntimeConfig, options); // umoci's own
  await writeFile(file, JSON.stringify(config));
  return { stopSignal: signalNumber(config.annotations?.["org.opencontainers.image.stopSignal"] || "SIGTERM") };
}

/** runc does not know the names of real-time signals; engines do. */
function signalNumber(name: string): string {
  const realTime = /^SIGRTMIN\+(\d+)$/.exec(name)?.[1];
  return realTime === undefined ? name : String(34 + Number(realTime));
}

/** Docker and containerd decide these differently from umoci. */
async function asEngine(
  config: RuntimeConfig,
  { hostname, etc, image, dir, isReadOnly = false }: ContainerOptions,
): Promise<RuntimeConfig> {
  const own = texts(image["Env"]).filter((pair) => pair.startsWith("HOME="));
  // TERM is for terminals, which there is none of; HOME is the image's where it has one.
  const env = config.process.env.filter((pair) => pair !== "TERM=xterm" && !(own.length > 0 && pair.startsWith("HOME=")));
  const volumes = Object.keys(image["Volumes"] ?? {});
  const mounts = config.mounts
    .filter(({ destination }) => !volumes.includes(destination))
    .map((mount) => (mount.destination === "/proc" ? { ...mount, options: ["nosuid", "noexec", "nodev"] } : mount));
  for (const [at, destination] of volumes.entries()) {
    const source = join(dir, `volume-${at}`);
    const copied = await run(["cp", "-a", join(dir, "rootfs", destination), source]); // a new volume begins with what the image has
    if (copied.code !== 0) await mkdir(source, { mode: 0o755 });
    mounts.push({ destination, type: "bind", source, options: ["rbind", "rw"] });
  }
  for (const [name, content] of Object.entries(etc)) {
    await writeFile(join(dir, name), content);
    mounts.push({ destination: `/etc/${name}`, type: "bind", source: join(dir, name), options: ["rbind", "rw"] });
  }
  return {
    ...config,
    root: { ...config.root, readonly: isReadOnly },
    process: {
      ...config.process,
      terminal: false,
      env: [...env, ...own],
      noNewPrivileges: false,
      rlimits: [],
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    },
    hostname,
    mounts,
  };
}

const texts = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);
