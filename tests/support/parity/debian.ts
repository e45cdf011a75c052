// Root file systems of Debian packages, made once per machine and kept beside the other caches.
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { exists } from "@pitwall/runtime";
import { run } from "../run.ts";
import type { RunConfig } from "./layouts.ts";
import type { Report } from "./report.ts";

export interface DebianImage {
  readonly name: string;
  readonly config: RunConfig;
  /** Whether the process is what it becomes once it is up. */
  readonly isUp: (report: Report) => boolean;
}

export interface DebianRoot {
  readonly name: "small" | "large";
  readonly packages: readonly string[];
  readonly images: readonly DebianImage[];
}

/** By its argument list, which many programs write anew. */
const named =
  (pattern: RegExp) =>
  ({ argv }: Report): boolean =>
    pattern.test(argv.join(" "));

const none = "0000000000000000";
/** Programs ignore signals once they have begun to set themselves up. */
const ignoresSignals = ({ status }: Report): boolean => status["SigIgn"] !== none;

/** Counts up with each change of the packages. */
const edition = 3;
const excluded = ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*"];

const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const postgres = "/usr/lib/postgresql/15/bin/postgres";

export const debianRoots: readonly DebianRoot[] = [
  {
    name: "small",
    packages: ["nginx-light", "redis-server", "python3-minimal", "busybox-static", "systemd-sysv", "dbus"],
    images: [
      {
        name: "nginx",
        config: { Env: [path], Cmd: ["nginx", "-g", "daemon off;"], ExposedPorts: { "80/tcp": {} }, StopSignal: "SIGQUIT" },
        isUp: named(/^nginx: master process/),
      },
      {
        name: "redis",
        config: {
          Env: [path, "REDIS_VERSION=7"],
          Entrypoint: ["redis-server"],
          Cmd: ["--save", "", "--port", "7000"],
          User: "redis",
          WorkingDir: "/var/lib/redis",
          Volumes: { "/var/lib/redis": {} },
        },
        isUp: named(/redis-server .*:7000/),
      },
      {
        name: "python",
        config: { Env: [path], Cmd: ["python3", "-c", "import signal; signal.pause()"], User: "www-data:adm", WorkingDir: "/srv/new" },
        isUp: (report) => named(/^python3 -c/)(report) && ignoresSignals(report),
      },
      {
        name: "busybox",
        config: { Entrypoint: ["/bin/busybox"], Cmd: ["httpd", "-f", "-p", "8080"], User: "nobody" },
        isUp: named(/httpd/),
      },
      { name: "shell", config: { Cmd: ["/bin/sh", "-c", "trap 'exit 3' TERM; while :; do sleep 1; done"] }, isUp: named(/^\/bin\/sh -c/) },
    ],
  },
  {
    name: "large",
    packages: ["postgresql", "nodejs"],
    images: [
      {
        name: "postgres",
        config: {
          Env: [path],
          Entrypoint: [postgres, "-D", "/var/lib/postgresql/15/main", "-c", "config_file=/etc/postgresql/15/main/postgresql.conf"],
          Cmd: ["-c", "unix_socket_directories=/tmp"],
          User: "postgres",
          StopSignal: "SIGINT",
        },
        // It starts with all signals blocked and unblocks them while it waits for clients, which is last.
        isUp: (report) =>
          named(/bin\/postgres/)(report) &&
          report.cwd.startsWith("/var/lib/") &&
          ignoresSignals(report) &&
          report.status["SigBlk"] === none,
      },
      {
        name: "node",
        config: { Env: [path, "NODE_ENV=production"], Cmd: ["node", "-e", "setInterval(() => 0, 1e6)"], User: "games", WorkingDir: "/tmp" },
        isUp: (report) => named(/^node -e/)(report) && ignoresSignals(report),
      },
    ],
  },
];

/** The tar of a root file system; made when the cache has none. */
export async function debianTar(cacheDir: string, root: DebianRoot): Promise<string> {
  const dir = join(cacheDir, "parity");
  const file = join(dir, `${root.name}-${edition}.tar`);
  if (await exists(file)) return file;
  await mkdir(dir, { recursive: true });
  const temporary = `${file}.${process.pid}.tmp`;
  const options = ["--variant=minbase", "--quiet", "--format=tar", ...excluded.map((glob) => `--dpkgopt=path-exclude=${glob}`)];
  const line = ["mmdebstrap", ...options, `--include=${root.packages.join(",")}`, "bookworm", temporary];
  const { code, stderr } = await run(line, { env: { SOURCE_DATE_EPOCH: "1767225600", LC_ALL: "C.UTF-8" }, timeoutMs: 280_000 });
  if (code !== 0) {
    await rm(temporary, { force: true });
    throw new Error(`mmdebstrap: ${stderr.slice(-500)}`);
  }
  await rename(temporary, file);
  return file;
}
