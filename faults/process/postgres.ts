// The PostgreSQL of a world: a server of its own, which can be shut down as it is in production, filled up, and started again.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { command } from "@pitwall/quickstart";
import { systemClock } from "@pitwall/runtime";
import pg from "pg";
import type { Makings } from "./makings.ts";

export const databasePort = 5432;
/** Of the connections that only take room. */
export const fillerName = "filler";
const user = "pitwall";
/** PostgreSQL refuses to run as root. */
const nobody = "65534";
const maxConnections = 60;
const startLimitMs = 30_000;
const lookMs = 30;
const queryTries = 200;

export class Postgres implements AsyncDisposable {
  readonly #dir: string;
  readonly #password: string;
  readonly #addresses: readonly string[];
  #child: ChildProcess | undefined;
  #observer: pg.Client | undefined;

  private constructor(dir: string, password: string, addresses: readonly string[]) {
    this.#dir = dir;
    this.#password = password;
    this.#addresses = addresses;
  }

  /** A copy of the prepared one, in `dir`, listening at these addresses and at 127.0.0.1. */
  static async open(dir: string, makings: Makings, addresses: readonly string[]): Promise<Postgres> {
    await mkdir(dir);
    await command("cp", ["-a", makings.database, join(dir, "data")]);
    await rm(join(dir, "data", "postmaster.pid"), { force: true });
    await mkdir("/mnt/postgres");
    await command("mount", ["--bind", makings.postgres, "/mnt/postgres"]); // where nobody can read it
    const made = new Postgres(dir, makings.password, ["127.0.0.1", ...addresses]);
    await made.start();
    return made;
  }

  url(address: string): string {
    return `postgresql://${user}:${this.#password}@${address}:${databasePort}/postgres`;
  }

  /** Resolves when it answers. */
  async start(): Promise<void> {
    const settings = {
      listen_addresses: this.#addresses.join(","),
      port: databasePort,
      unix_socket_directories: "",
      max_connections: maxConnections,
      shared_buffers: "64MB",
      timezone: "UTC",
    };
    const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const deadline = systemClock.monotonicMs() + startLimitMs;
    const log = await open(join(this.#dir, "postgres.log"), "a");
    try {
      for (let isUp = false; !isUp;) {
        if (systemClock.monotonicMs() > deadline) throw new Error("PostgreSQL does not start");
        // After a crash, what is left of the one before may still hold its memory.
        if (!this.#child || this.#child.exitCode !== null || this.#child.signalCode !== null) {
          const line = [`--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups", "/mnt/postgres/bin/postgres", "-D", "data", ...args];
          this.#child = spawn("setpriv", line, { cwd: this.#dir, env: { LC_ALL: "C" }, stdio: ["ignore", log.fd, log.fd] });
        }
        await systemClock.sleep(lookMs);
        isUp = await this.#connect().then(
          () => true,
          () => false,
        );
      }
    } finally {
      await log.close();
    }
  }

  /** Fast: connections are ended. Immediate: as if it crashed. Resolves when it is down. */
  async stop(how: "fast" | "immediate"): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill(how === "fast" ? "SIGINT" : "SIGQUIT");
    await gone;
  }

  /** The observer's own connection; waits while the server is down. */
  async query<T extends object>(sql: string, values: readonly unknown[] = []): Promise<T[]> {
    for (let tried = 1; ; tried++) {
      try {
        const client = this.#observer ?? (await this.#connect());
        return (await client.query<T>(sql, [...values])).rows;
      } catch (error) {
        if (tried >= queryTries || !isAway(error)) throw error;
        this.#observer = undefined;
        await systemClock.sleep(lookMs);
      }
    }
  }

  /** Ends all connections but the observer's, and takes all that there are. Disposing it gives them back. */
  async fill(): Promise<AsyncDisposable> {
    await this.query("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and client_addr is not null");
    const taken: pg.Client[] = [];
    for (let isFull = false; !isFull && taken.length < maxConnections;) {
      const client = new pg.Client({ connectionString: this.url("127.0.0.1"), application_name: fillerName });
      client.on("error", () => undefined);
      isFull = await client.connect().then(
        () => taken.push(client) < 0,
        () => true,
      );
    }
    return {
      async [Symbol.asyncDispose]() {
        await Promise.allSettled(taken.map((client) => client.end()));
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#observer?.end().catch(() => undefined);
    await this.stop("fast");
  }

  async #connect(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.url("127.0.0.1") });
    client.on("error", () => {
      if (this.#observer === client) this.#observer = undefined;
    });
    await client.connect();
    this.#observer = client;
    return client;
  }
}

function isAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error ? String(error.code) : "";
  return /^(08|53|57)/.test(code) || code.startsWith("E") || /terminated|not queryable|closed/i.test(error.message);
}
