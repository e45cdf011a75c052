// The schema changes under those who use it.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@pitwall/runtime";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openEmbeddedPostgres } from "../src/store/embedded-postgres.ts";
import { First } from "../src/store/migrations/0001-first.ts";
import { migrations } from "../src/store/migrations/index.ts";
import { openStore } from "../src/store/store.ts";
import { eventually } from "./support/installation.ts";

/** Of the first release with rows: before projects. */
const firstSteps = 2;
/** What a step may wait for a lock, and with it everybody behind it; and what this machine may add. */
const pauseLimitMs = 2_000 + 3_000;

const cleanUp = new AsyncDisposableStack();
let serverUrl: string;
let runtimeServerUrl: string;

beforeAll(async () => {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-migration-"));
  cleanUp.defer(() => rm(dir, { recursive: true, force: true }));
  const server = cleanUp.use(await openEmbeddedPostgres(dir, process.env["PATH"] ?? "", silentLog));
  [serverUrl, runtimeServerUrl] = [server.url, server.runtimeUrl];
}, 60_000);

afterAll(() => cleanUp.disposeAsync());

async function connect(url: string): Promise<pg.Client & AsyncDisposable> {
  const client = new pg.Client(url);
  await client.connect();
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() });
}

const databaseAt = (url: string, name: string): string => Object.assign(new URL(url), { pathname: `/${name}` }).href;

/** A step of a version that is yet to come; it has nothing of the first but what every step is. */
function stepOf(name: string, ...statements: string[]): (typeof migrations)[number] {
  return {
    name,
    class: class extends First {
      override up(): void {
        for (const statement of statements) this.addSql(statement);
      }
    },
  };
}

/** A database of the first release, with a node, and VMs of two users. */
async function oldDatabase(name: string): Promise<string> {
  await using server = await connect(serverUrl);
  await server.query(`create database ${name}`);
  const url = databaseAt(serverUrl, name);
  await (await openStore(url, migrations.slice(0, firstSteps)))[Symbol.asyncDispose]();
  await using old = await connect(url);
  await old.query(`insert into member values ('00000000-0000-4000-8000-000000000001', 'node', 'host', now(), now() + interval '1 day')`);
  await old.query(`insert into node (id, name, session_epoch, cpu_millis, mem_bytes, disk_bytes, create_time)
    values ('00000000-0000-4000-8000-000000000001', 'host', 7, 64000, 1e12, 1e13, now())`);
  await old.query(`insert into vm (id, name, owner, spec, image_digest, desired, generation, observed_generation, phase, reason, message, node_id,
      epoch, ssh_host_key, timings, create_time, update_time, revision, cpu_millis, mem_bytes, disk_bytes)
    select gen_random_uuid(), 'vm-' || n, 'user' || n % 2, '{"image":"web"}', 'sha256:00', 1, 1, 1, 5, '', '', '00000000-0000-4000-8000-000000000001',
      1, '', '{}', now(), now(), n, 100, 1 << 28, 1 << 28 from generate_series(1, 500) as n`);
  return url;
}

/** Writes as the version before does, until it is stopped; the longest that one write took. */
async function writeAsBefore(url: string, signal: AbortSignal): Promise<{ readonly writes: number; readonly longestMs: number }> {
  await using client = await connect(url);
  let writes = 0;
  let longestMs = 0;
  for (; !signal.aborted; writes++) {
    const since = performance.now();
    await client.query("update vm set phase = 5, update_time = now(), revision = nextval('vm_revision') where name = $1", [
      `vm-${1 + (writes % 500)}`,
    ]);
    longestMs = Math.max(longestMs, performance.now() - since);
  }
  return { writes, longestMs };
}

test("two controllers that start at once bring an old database up to date, while a client writes", async () => {
  const url = await oldDatabase("busy");
  const stop = new AbortController();
  const writing = writeAsBefore(url, stop.signal);
  const stores = await Promise.all([openStore(url), openStore(url)]);
  stop.abort();
  const { writes, longestMs } = await writing;
  console.log(`${writes} writes while the schema changed, the longest ${Math.round(longestMs)} ms`);
  expect(writes).toBeGreaterThan(0);
  expect(longestMs).toBeLessThan(pauseLimitMs);
  await Promise.all(stores.map((store) => store[Symbol.asyncDispose]()));
  await using now = await connect(url);
  const { rows: steps } = await now.query<{ name: string }>("select name from schema_migration order by id");
  expect(steps.map(({ name }) => name)).toEqual(migrations.map(({ name }) => name));
  const { rows: vms } = await now.query(`select count(*)::int as count, count(distinct project_id)::int as projects from vm`);
  expect(vms).toEqual([{ count: 500, projects: 2 }]);
  const { rows: sessions } = await now.query("select epoch, end_reason from node_session");
  expect(sessions).toEqual([{ epoch: "7", end_reason: "upgrade" }]);
});

test("a step that must wait for somebody's lock lets others pass, and is made when it is free", async () => {
  const url = await oldDatabase("held");
  const stop = new AbortController();
  await using holder = await connect(url);
  await holder.query("begin");
  await holder.query("select count(*) from vm"); // a report that somebody left open
  const writing = writeAsBefore(url, stop.signal);
  const opening = openStore(url);
  await using watcher = await connect(url);
  const waiting = async (): Promise<number> =>
    (await watcher.query("select from pg_stat_activity where datname = 'held' and wait_event_type = 'Lock' and query ~ '^alter table vm'"))
      .rows.length;
  await eventually(async () => (await waiting()) > 0 || undefined);
  await eventually(async () => (await waiting()) === 0 || undefined); // it gave up
  await holder.query("commit");
  const store = await opening;
  stop.abort();
  const { longestMs } = await writing;
  console.log(`with a lock that was held, the longest write took ${Math.round(longestMs)} ms`);
  expect(longestMs).toBeLessThan(pauseLimitMs);
  await store[Symbol.asyncDispose]();
});

test("what triggers of a step write to, the role of the controllers that run may write to as soon as the step is made", async () => {
  const url = await oldDatabase("two_roles");
  const runtimeUrl = databaseAt(runtimeServerUrl, "two_roles");
  await (await openStore(runtimeUrl, migrations, url))[Symbol.asyncDispose]();
  const next = [
    ...migrations,
    stepOf(
      "9001_counted",
      "create table counted (id bigserial primary key, vm_id uuid not null)",
      "create function count_vm() returns trigger language plpgsql as $$ begin insert into counted (vm_id) values (new.id); return null; end $$",
      "create trigger vm_counted after update on vm for each row execute function count_vm()",
    ),
    stepOf("9002_slow", "select pg_sleep(1)"), // meanwhile the step before is there, and no controller of the new version
  ];
  const stop = new AbortController();
  const writing = writeAsBefore(runtimeUrl, stop.signal);
  await using store = await openStore(runtimeUrl, next, url);
  stop.abort();
  const { writes } = await writing;
  const [row] = await store.read().execute<{ counted: number }[]>("select count(*)::int as counted from counted");
  expect(row?.counted).toBeGreaterThan(0);
  expect(row?.counted).toBeLessThanOrEqual(writes);
  await using owner = await connect(url);
  const { rows } = await owner.query("select has_table_privilege('pitwall_runtime', 'counted', 'truncate') as is_too_much");
  expect(rows).toEqual([{ is_too_much: false }]);
});

test("a step that the database ends because it and a change wait for each other is tried again", async () => {
  const url = await oldDatabase("crossed");
  await (await openStore(url))[Symbol.asyncDispose]();
  await using change = await connect(url);
  await change.query("set deadlock_timeout = '1min'"); // so that it is the step that looks, and is ended
  await change.query("begin");
  await change.query("update node set cordoned = false");
  const next = [...migrations, stepOf("9001_both", "alter table vm add column x int", "alter table node add column x int")];
  const opening = openStore(url, next);
  opening.catch(() => undefined);
  await using watcher = await connect(url);
  const isWaiting = async (): Promise<true | undefined> => {
    const { rows } = await watcher.query(
      "select from pg_stat_activity where datname = 'crossed' and wait_event_type = 'Lock' and query ~ '^alter table node'",
    );
    return rows.length > 0 || undefined;
  };
  await eventually(isWaiting);
  await change.query("update vm set update_time = now()");
  await change.query("commit");
  await (await opening)[Symbol.asyncDispose]();
  const { rows } = await watcher.query("select count(*)::int as columns from information_schema.columns where column_name = 'x'");
  expect(rows).toEqual([{ columns: 2 }]);
});

test("a controller that is too old for its database does not start, one that merely lacks steps does", async () => {
  const url = await oldDatabase("newer");
  await (await openStore(url))[Symbol.asyncDispose]();
  await (await openStore(url, migrations.slice(0, -1)))[Symbol.asyncDispose]();
  await using client = await connect(url);
  await client.query("update installation set min_schema = $1", [migrations.length + 1]);
  await expect(openStore(url)).rejects.toMatchObject({
    fault: "state",
    reason: "SCHEMA_TOO_NEW",
    message: expect.stringContaining("this controller is too old for its database") as string,
  });
});
