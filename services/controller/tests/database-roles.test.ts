// The role that controllers work with, against a real PostgreSQL: it changes rows, no tables, and nothing that is in the audit log.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@pitwall/runtime";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openEmbeddedPostgres, type EmbeddedPostgres } from "../src/store/embedded-postgres.ts";
import { migrations } from "../src/store/migrations/index.ts";
import { openStore } from "../src/store/store.ts";

const cleanUp = new AsyncDisposableStack();
let server: EmbeddedPostgres;
let runtime: pg.Client;
let owner: pg.Client;

async function connected(url: string): Promise<pg.Client> {
  const client = cleanUp.adopt(new pg.Client(url), (open) => open.end());
  await client.connect();
  return client;
}

beforeAll(async () => {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-roles-"));
  cleanUp.defer(() => rm(dir, { recursive: true, force: true }));
  server = cleanUp.use(await openEmbeddedPostgres(dir, process.env["PATH"] ?? "", silentLog));
  await (await openStore(server.runtimeUrl, migrations, server.url))[Symbol.asyncDispose]();
  [runtime, owner] = [await connected(server.runtimeUrl), await connected(server.url)];
  await owner.query("insert into audit_entry (actor, subject, action, object, detail) values ('a', 'a', 'test', 'x', '{}')");
}, 60_000);

afterAll(() => cleanUp.disposeAsync());

test("it is nobody who could give itself more", async () => {
  const { rows } = await runtime.query(
    `select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls from pg_roles where rolname = current_user`,
  );
  expect(rows).toEqual([{ rolsuper: false, rolcreaterole: false, rolcreatedb: false, rolreplication: false, rolbypassrls: false }]);
  const { rows: member } = await runtime.query("select from pg_auth_members where member = current_user::regrole");
  expect(member).toEqual([]);
  const { rows: owned } = await runtime.query("select from pg_class where relowner = current_user::regrole");
  expect(owned).toEqual([]);
});

test("each table is read and written, and has no other rights than these", async () => {
  const { rows } = await owner.query<{ name: string; rights: string }>(
    `select tablename as name, concat_ws(' ', ${["select", "insert", "update", "delete", "truncate", "references", "trigger"]
      .map((right) => `case when has_table_privilege('pitwall_runtime', tablename, '${right}') then '${right}' end`)
      .join(", ")}) as rights
     from pg_tables where schemaname = 'public' order by name`,
  );
  const special: Record<string, string> = {
    audit_entry: "select insert",
    audit_leaf: "select insert",
    audit_head: "select insert",
    installation: "select", // and one of its columns
    schema_migration: "select",
  };
  expect(rows.length).toBeGreaterThan(Object.keys(special).length);
  expect(Object.fromEntries(rows.map(({ name, rights }) => [name, rights]))).toEqual(
    Object.fromEntries(rows.map(({ name }) => [name, special[name] ?? "select insert update delete"])),
  );
});

test.each([
  ["create table mine (a int)", "permission denied for schema public"],
  ["create temporary table vm (a int)", 'permission denied to create temporary tables in database "postgres"'],
  ["create schema mine", "permission denied for database postgres"],
  ["create function vm_takes(int) returns int language sql as 'select 1'", "permission denied for schema public"],
  ["alter table vm add column mine int", "must be owner of table vm"],
  ["alter table audit_entry disable trigger all", "must be owner of table audit_entry"],
  ["drop trigger audit_entry_append_only on audit_entry", "must be owner of relation audit_entry"],
  ["drop table audit_head", "must be owner of table audit_head"],
  ["alter function vm_charge() owner to pitwall_runtime", "must be owner of function vm_charge"],
  ["truncate vm", "permission denied for table vm"],
  ["update audit_entry set actor = 'nobody'", "permission denied for table audit_entry"],
  ["delete from audit_entry", "permission denied for table audit_entry"],
  ["truncate audit_entry", "permission denied for table audit_entry"],
  ["delete from audit_leaf", "permission denied for table audit_leaf"],
  ["update audit_head set signature = ''", "permission denied for table audit_head"],
  ["update installation set min_schema = 0", "permission denied for table installation"],
  ["delete from installation", "permission denied for table installation"],
  ["delete from schema_migration", "permission denied for table schema_migration"],
  ["set session_replication_role = replica", 'permission denied to set parameter "session_replication_role"'],
  ["set role pitwall", 'permission denied to set role "pitwall"'],
])("%s: refused", async (sql, message) => {
  await expect(runtime.query(sql)).rejects.toMatchObject({ code: "42501", message });
});

test("entries are added", async () => {
  await runtime.query("insert into audit_entry (actor, subject, action, object, detail) values ('b', 'b', 'test', 'x', '{}')");
  const { rows } = await runtime.query("select actor from audit_entry order by seq");
  expect(rows).toEqual([{ actor: "a" }, { actor: "b" }]);
});

test("with its role alone a controller starts on a schema that is up to date, and says what it lacks on another", async () => {
  await (await openStore(server.runtimeUrl))[Symbol.asyncDispose]();
  await owner.query("create database another");
  const another = (url: string): string => Object.assign(new URL(url), { pathname: "/another" }).href;
  await expect(openStore(another(server.runtimeUrl))).rejects.toMatchObject({
    fault: "state",
    reason: "SCHEMA_RIGHTS",
    message: `the schema lacks ${migrations.length} steps, and the role pitwall_runtime may not change it: PITWALL_DATABASE_MIGRATOR_URL names one that may`,
  });
});

test("rights that it was given too many of are taken away at the next start", async () => {
  await owner.query("grant all on audit_entry to pitwall_runtime");
  await (await openStore(server.runtimeUrl, migrations, server.url))[Symbol.asyncDispose]();
  await expect(runtime.query("delete from audit_entry")).rejects.toMatchObject({ code: "42501" });
});
