// The real PostgreSQL of a worker's schedules. Its `now()` is the simulation's: a function of that name stands before the system's.
import { openStore, type Store } from "@pitwall/controller/src/store/store.ts";
import pg from "pg";
import { historyTriggers } from "../observer/triggers.ts";
import { Traffic } from "./traffic.ts";

/** Of the first moment of every schedule. */
const epochMs = Date.UTC(2026, 0, 1);

/** A function of one expression, which is put in its place; a sequence without a log, which gives no transaction a number. */
const clock = `
create schema sim;
create unlogged sequence sim.clock_ms minvalue 0 start 0;
create function sim.now() returns timestamptz language sql volatile as
  $$ select to_timestamp((${epochMs} + pg_sequence_last_value('sim.clock_ms')) / 1000.0) $$;`;
const tick = (nowMs: number): string => `select setval('sim.clock_ms', ${nowMs})`;
const triggers = historyTriggers({
  schema: "sim",
  nowMs: "pg_sequence_last_value('sim.clock_ms')",
  originMs: String(epochMs),
});

/** The server does not do it by itself: it would at times of its own, in the way of a schedule. */
const cleanEvery = 10;

export interface SimDatabase extends AsyncDisposable {
  readonly store: Store;
  query<T extends object>(sql: string, values?: readonly unknown[]): Promise<T[]>;
  /** Nothing is left of the schedule before; the database's time is this one from now on, in milliseconds since the begin. */
  begin(nowMs: () => number): Promise<void>;
  /** The most connections at once since this was last asked. */
  takeMostConnections(): number;
  /** Resolves when nothing goes on any more without time passing. */
  quiet(): Promise<void>;
}

/** A database of its own on the server of `serverUrl`. */
export async function openSimDatabase(serverUrl: string, name: string): Promise<SimDatabase> {
  await using parts = new AsyncDisposableStack();
  const admin = new pg.Client({ connectionString: serverUrl });
  await admin.connect();
  await admin.query(`create database ${pg.escapeIdentifier(name)}`);
  await admin.query(`alter database ${pg.escapeIdentifier(name)} set search_path = public, sim, pg_catalog`);
  parts.defer(() => admin.end());
  const lockWaits = async (): Promise<number> => {
    const { rows } = await admin.query<{ count: number }>(
      "select count(*)::int as count from pg_stat_activity where datname = $1 and wait_event_type = 'Lock'",
      [name],
    );
    return rows[0]?.count ?? 0;
  };
  const traffic = new Traffic(name, tick, lockWaits);
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
  let begins = 0;
  const done = parts.move();
  return {
    store,
    async query<T extends object>(sql: string, values: readonly unknown[] = []): Promise<T[]> {
      return (await client.query<T>(sql, [...values])).rows;
    },
    async begin(nowMs) {
      traffic.follow(nowMs);
      if (begins++ % cleanEvery === 0) await client.query(`vacuum ${tables.join(", ")}`);
      // Rows are few: deleting them is a tenth of what truncating that many files costs.
      await client.query(
        `begin; set local session_replication_role = replica; ${tables.map((table) => `delete from ${table}`).join("; ")}; commit`,
      );
    },
    takeMostConnections: () => traffic.takeMostConnections(),
    quiet: () => traffic.quiet(),
    [Symbol.asyncDispose]: () => done.disposeAsync(),
  };
}
