// Brings the schema up to what this version knows, while controllers of the version before go on working.
//
// One controller at a time; each step in a transaction of its own that waits for a lock only so long, because everything behind it waits
// too. Steps expand first; what takes something away (contract) comes a release later and raises `installation.min_schema`.
import { Migrator } from "@mikro-orm/migrations";
import { DeadlockException, LockWaitTimeoutException, MikroORM } from "@mikro-orm/postgresql";
import { backoff, PitwallError, planted, systemClock } from "@pitwall/runtime";
import pg from "pg";
import { entities } from "./entities.ts";
import type { migrations } from "./migrations/index.ts";
import { grantOnNew, grantTo } from "./rights.ts";

type Step = (typeof migrations)[number];

/** Any number that no other lock has. */
const lockKey = 7_001_000;
const lockLimitMs = 2_000;
const maxTries = 20;

/**
 * As the role of `url`; `runtimeRole` is then given its rights, if it is another. Throws `state` when the database is of a version that this
 * one must not write to, or the role may not bring it up to date; `unavailable` when a table stays locked.
 */
export async function migrate(url: string, steps: readonly Step[], runtimeRole: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => undefined); // a lock that is lost with its connection is found by the next query
  await client.connect();
  try {
    await client.query("select pg_advisory_lock($1)", [lockKey]);
    await refuseNewer(client, steps.length);
    const { rows } = await client.query<{ name: string }>("select current_user as name");
    const grantee = rows[0]?.name === runtimeRole ? undefined : runtimeRole;
    const missing = await missingSteps(client, steps);
    if (missing > 0) {
      await refuseWithoutRights(client, missing);
      await change(url, steps, grantee);
    }
    if (grantee !== undefined) await grantTo(client, grantee);
  } finally {
    await client.end();
  }
}

async function change(url: string, steps: readonly Step[], grantee: string | undefined): Promise<void> {
  const orm = await MikroORM.init({
    clientUrl: url,
    entities,
    extensions: [Migrator],
    migrations: {
      migrationsList: patientSteps(steps, grantee),
      tableName: "schema_migration",
      snapshot: false,
      transactional: true,
      allOrNothing: false,
    },
    pool: { min: 0, max: 2 },
    discovery: { warnWhenNoEntities: false },
    ensureDatabase: false,
    allowGlobalContext: false,
    logger: () => undefined,
  });
  try {
    const wait = backoff(100, 2_000);
    for (let tries = 1; ; tries++) {
      try {
        await orm.migrator.up();
        return;
      } catch (error) {
        if (!isInTheWay(error)) throw error;
        if (tries >= maxTries) {
          const message = "the schema cannot be changed: somebody holds a lock on a table; see pg_stat_activity";
          throw new PitwallError("unavailable", message, { reason: "SCHEMA_LOCKED", cause: error });
        }
      }
      await systemClock.sleep(100 + wait.nextMs());
    }
  } finally {
    await orm.close();
  }
}

/** As the migrator takes them: each gives up waiting for a lock after a while, and lets `grantee` at what it has added. */
function patientSteps(steps: readonly Step[], grantee: string | undefined): { name: string; class: Step["class"] }[] {
  return steps.map(({ name, class: Wrapped }) => ({
    name,
    class: class extends Wrapped {
      override up(): void {
        this.addSql(`set local lock_timeout = ${lockLimitMs}`);
        super.up();
        if (grantee !== undefined) this.addSql(grantOnNew(grantee));
        if (planted("exclusive-migration") && name === steps.at(-1)?.name) this.addSql("lock table vm; select pg_sleep(30)");
      }
    },
  }));
}

async function refuseNewer(client: pg.Client, knownSteps: number): Promise<void> {
  if (!(await isThere(client, "installation"))) return;
  const { rows } = await client.query<{ min_schema: number }>("select min_schema from installation");
  const least = rows[0]?.min_schema ?? 0;
  if (least <= knownSteps) return;
  const message = `this controller is too old for its database: it knows ${knownSteps} steps of the schema, and must know ${least}; install the new version`;
  throw new PitwallError("state", message, { reason: "SCHEMA_TOO_NEW" });
}

async function missingSteps(client: pg.Client, steps: readonly Step[]): Promise<number> {
  if (!(await isThere(client, "schema_migration"))) return steps.length;
  const { rows } = await client.query<{ name: string }>("select name from schema_migration");
  const done = new Set(rows.map(({ name }) => name));
  return steps.filter(({ name }) => !done.has(name)).length;
}

async function refuseWithoutRights(client: pg.Client, missing: number): Promise<void> {
  const { rows } = await client.query<{ may: boolean; name: string }>(
    "select has_schema_privilege(current_schema(), 'create') as may, current_user as name",
  );
  if (rows[0]?.may === true) return;
  const message = `the schema lacks ${missing} steps, and the role ${rows[0]?.name} may not change it: PITWALL_DATABASE_MIGRATOR_URL names one that may`;
  throw new PitwallError("state", message, { reason: "SCHEMA_RIGHTS" });
}

async function isThere(client: pg.Client, table: string): Promise<boolean> {
  const { rows } = await client.query<{ is_there: boolean }>("select to_regclass($1) is not null as is_there", [table]);
  return rows[0]?.is_there === true;
}

/** Somebody's lock: it was waited for too long, or its holder waits for what the step has locked. */
function isInTheWay(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) {
    if (e instanceof LockWaitTimeoutException || e instanceof DeadlockException) return true;
    if ("code" in e && (e.code === "55P03" || e.code === "40P01")) return true;
  }
  return false;
}
