// The real PostgreSQL of a worker's schedules. Its `now()` is the simulation's: a function of that name stands before the system's.
import { openStore, type Store } from "@pitwall/controller/src/store/store.ts";
import pg from "pg";

/** Of the first moment of every schedule. */
const epochMs = Date.UTC(2026, 0, 1);

/** A trigger sees what was written, in the order in which the rows' locks were had; its name makes it the last. */
const observer = `
create schema sim;
create sequence sim.clock_ms minvalue 0 start 0;
create function sim.now() returns timestamptz language sql volatile as
  $$ select to_timestamp((${epochMs} + last_value) / 1000.0) from sim.clock_ms $$;`;
const triggers = `
create table sim.vm_write (seq bigserial primary key, at_ms bigint not null, op text not null, vm uuid not null, node uuid not null,
  epoch bigint not null, generation bigint not null, observed bigint not null, desired int not null, phase int not null,
  cpu_millis bigint not null, mem_bytes bigint not null, request text not null);
create function sim.see_vm() returns trigger language plpgsql as $$
  declare it vm; begin
    if tg_op = 'DELETE' then it := old; else it := new; end if;
    insert into sim.vm_write (at_ms, op, vm, node, epoch, generation, observed, desired, phase, cpu_millis, mem_bytes, request)
      select last_value, tg_op, it.id, it.node_id, it.epoch, it.generation, it.observed_generation, it.desired, it.phase, it.cpu_millis,
        it.mem_bytes, coalesce(it.spec->'env'->>'REQUEST', '') from sim.clock_ms;
    return null;
  end $$;
create trigger z_see after insert or update or delete on vm for each row execute function sim.see_vm();
create table sim.loss (node uuid not null, lost_ms double precision not null, renewed_ms double precision not null);
create function sim.see_loss() returns trigger language plpgsql as $$
  begin
    insert into sim.loss values (new.node_id, extract(epoch from new.lost_time) * 1000 - ${epochMs}, extract(epoch from new.renew_time) * 1000 - ${epochMs});
    return null;
  end $$;
create trigger z_see_loss after update on node_session for each row
  when (old.lost_time is null and new.lost_time is not null) execute function sim.see_loss();`;

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
  await client.query(observer);
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
