// What all worlds begin with, made once: programs, an image, and a database with the schema and the observer's triggers.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nativeDir, openEmbeddedPostgres } from "@pitwall/controller/src/store/embedded-postgres.ts";
import { openStore } from "@pitwall/controller/src/store/store.ts";
import { writeLayout } from "@pitwall/controller/tests/support/layout.ts";
import { command, provideBreakable, provision, testCommands } from "@pitwall/quickstart";
import { silentLog } from "@pitwall/runtime";
import pg from "pg";
import { historyTriggers } from "../observer/triggers.ts";
import { processFaults, type ProcessFaultKind } from "./schedule.ts";

const services = join(import.meta.dirname, "..", "..", "services");
const programs = ["controller/src/main.ts", "gateway/src/main.ts", "node/src/main.ts", "node/src/sim/guest.ts"];

/** Paths on the host. */
export interface Makings {
  /** Where commands are found. */
  readonly path: string;
  /** Of the shared library that fakes clocks; empty where there is none. */
  readonly fakeTime: string;
  readonly fence: string;
  /** Stands for powerunit and its SSH server, which no simulated VM boots. */
  readonly powerunit: string;
  /** Below it are images. */
  readonly imageRoot: string;
  readonly image: string;
  /** Node's compile cache: half of what a process costs at its start. */
  readonly compiled: string;
  /** PostgreSQL's programs. */
  readonly postgres: string;
  /** A data folder to copy, and its password. */
  readonly database: string;
  readonly password: string;
  /** All that hangs on leases takes so many times as long. */
  readonly pace: number;
  /** The faults that can be brought about here. */
  readonly kinds: readonly ProcessFaultKind[];
}

/** Times in the history are milliseconds since what `seen.origin` says. */
const schema = `
create schema seen;
create table seen.origin (ms double precision not null);
insert into seen.origin values (0);
create function seen.ms() returns bigint language sql volatile as
  $$ select floor(extract(epoch from clock_timestamp()) * 1000 - ms)::bigint from seen.origin $$;
${historyTriggers({ schema: "seen", nowMs: "seen.ms()", originMs: "(select ms from seen.origin)" })}`;

/** Disposing it removes what was made. `path` is where commands are found. */
export async function makeMakings(path: string, pace: number, say: (line: string) => void): Promise<Makings & AsyncDisposable> {
  await using parts = new AsyncDisposableStack();
  const { cacheDir } = await provision(say, testCommands);
  const dir = await mkdtemp(join(tmpdir(), "pitwall-makings-"));
  parts.defer(() => rm(dir, { recursive: true, force: true }));
  const powerunit = join(dir, "powerunit");
  await Promise.all([powerunit, `${powerunit}-ssh`].map((name) => writeFile(name, "of a simulated VM")));
  await mkdir(join(dir, "modules"));
  const image = await writeLayout(join(dir, "images", "one"));
  const database = join(dir, "postgres");
  const server = await openEmbeddedPostgres(database, path, silentLog);
  let password: string;
  try {
    await using _store = await openStore(server.url);
    const client = new pg.Client({ connectionString: server.url });
    await client.connect();
    await client.query(schema);
    await client.end();
    password = new URL(server.url).password;
  } finally {
    await server[Symbol.asyncDispose]();
  }
  const compiled = join(dir, "compiled");
  await Promise.all(programs.map((program) => compile(program, compiled, path)));
  const fakeTime = await fakeTimeLibrary();
  if (fakeTime === "") say("clocks do not jump: there is no libfaketime here");
  const done = parts.move();
  return {
    ...{ path, pace, powerunit, image, password, fakeTime, compiled },
    kinds: processFaults.filter((kind) => fakeTime !== "" || !kind.endsWith("-clock-jump")),
    fence: `${await provideBreakable(cacheDir, say)}-fence`, // with nothing armed it is the one that is shipped
    imageRoot: join(dir, "images"),
    postgres: nativeDir(),
    database: join(database, "data"),
    [Symbol.asyncDispose]: () => done.disposeAsync(),
  };
}

/** Without a configuration a program ends at once, when all of it is loaded. */
async function compile(program: string, compiled: string, path: string): Promise<void> {
  const child = spawn(process.execPath, [join(services, program)], { stdio: "ignore", env: { PATH: path, NODE_COMPILE_CACHE: compiled } });
  await once(child, "exit");
}

/** The package says where it put it. */
async function fakeTimeLibrary(): Promise<string> {
  const listed = await command("dpkg", ["-L", "libfaketime"]).catch(() => "");
  return listed.split("\n").find((file) => file.endsWith("/libfaketime.so.1")) ?? "";
}
