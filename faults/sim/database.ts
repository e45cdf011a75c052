// The real PostgreSQL of a worker's schedules. Its `now()` is the simulation's: a function of that name stands before the system's.
import { openStore, type Store } from "@pitwall/controller/src/store/store.ts";
import pg from "pg";
import { historyTriggers } from "../observer/triggers.ts";

/** Of the first moment of every schedule. */
const epochMs = Date.UTC(2026, 0, 1);

const clock = `
create schema sim;
create sequence sim.clock_ms minvalue 0 start 0;
create function sim.now() returns timestamptz language sql volatile as
  $$ select to_timestamp((${epochMs} + last_value) / 1000.0) from sim.clock_ms $$;`;
const triggers = historyTriggers({
  schema: "sim",
  nowMs: "(select last_value from sim.clock_ms)",
  originMs: String(epochMs),
});

export interface SimDatabase extends AsyncDisposable {
  readonly store: Store;
  query<T extends object>(sql: string, values?: readonly unknown[]): Promise<T[]>;
  /** Nothing is left of the schedule before. */
  clear(): Promise<void>;
  /** Milliseconds since the begin of the schedule. */
  setTime(ms: number): Promise<void>;
}

/** A database of its own on the server of `serverUrl`. */
export async function openSimDatabase(serverUrl: string, name: string): Promise<SimDatabase> {
  await using parts = new AsyncDisposableStack();
  const admin = new pg.Client({ connectionString: serverUrl });
  await admin.connect();
  await admin.query(`create database ${pg.escapeIdentifier(name)}`);
  // The server does not lose power in this layer; what is committed is seen all the same.
  await admin.query(`alter database ${pg.escapeIdentifier(name)} set synchronous_commit = off`);
  await admin.query(`alter database ${pg.escapeIdentifier(name)} set search_path = public, sim, pg_catalog`);
  await admin.end();
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  parts.defer(() => client.end());
  await client.query(clock);
  const store = parts.use(await openStore(url.href));
  await client.query(triggers);
  const { rows } = await client.query<{ name: string }>(
    `select quote_ident(schemaname) || '.' || quote_ident(tablename) as name from pg_tables
     where schemaname in ('public', 'sim') and tablename not in ('schema_migration', 'installation', 'vm_event_floor', 'signing_key')`,
  );
  const tables = rows.map((row) => row.name);
  const done = parts.move();
  return {
    store,
    async query<T extends object>(sql: string, values: readonly unknown[] = []): Promise<T[]> {
      return (await client.query<T>(sql, [...values])).rows;
    },
    async clear() {
      // Rows are few: deleting them is a tenth of what truncating that many files costs.
      await client.query(
        `begin; set local session_replication_role = replica; ${tables.map((table) => `delete from ${table}`).join("; ")}; commit`,
      );
      await client.query("select setval('sim.clock_ms', 0)");
    },
    async setTime(ms) {
      await client.query("select setval('sim.clock_ms', $1)", [Math.floor(ms)]);
    },
    [Symbol.asyncDispose]: () => done.disposeAsync(),
  };
}
