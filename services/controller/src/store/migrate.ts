// Brings the schema up to what this version knows, while controllers of the version before go on working.
//
// One controller at a time; each step in a transaction of its own that waits for a lock only so long, because everything behind it waits
// too. Steps expand first; what takes something away (contract) comes a release later and raises `installation.min_schema`.
import { LockWaitTimeoutException, type MikroORM } from "@mikro-orm/postgresql";
import { backoff, PitwallError, systemClock } from "@pitwall/runtime";
import pg from "pg";
import type { migrations } from "./migrations/index.ts";

type Step = (typeof migrations)[number];

/** Any number that no other lock has. */
const lockKey = 7_001_000;
const lockLimitMs = 2_000;
const maxTries = 20;

/** As the migrator takes them: each gives up waiting for a lock after a while. */
export function patientSteps(steps: readonly Step[]): { name: string; class: Step["class"] }[] {
  return steps.map(({ name, class: Wrapped }) => ({
    name,
    class: class extends Wrapped {
      override up(): void {
        this.addSql(`set local lock_timeout = ${lockLimitMs}`);
        super.up();
      }
    },
  }));
}

/** Throws `state` when the database is of a version that this one must not write to, `unavailable` when a table stays locked. */
export async function migrate(orm: MikroORM, url: string, knownSteps: number): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => undefined); // a lock that is lost with its connection is found by the next query
  await client.connect();
  try {
    await client.query("select pg_advisory_lock($1)", [lockKey]);
    await refuseNewer(client, knownSteps);
    const wait = backoff(100, 2_000);
    for (let tries = 1; ; tries++) {
      try {
        await orm.migrator.up();
        return;
      } catch (error) {
        if (!isLockTimeout(error)) throw error;
        if (tries >= maxTries) {
          const message = "the schema cannot be changed: somebody holds a lock on a table; see pg_stat_activity";
          throw new PitwallError("unavailable", message, { reason: "SCHEMA_LOCKED", cause: error });
        }
      }
      await systemClock.sleep(100 + wait.nextMs());
    }
  } finally {
    await client.end();
  }
}

async function refuseNewer(client: pg.Client, knownSteps: number): Promise<void> {
  const { rows: tables } = await client.query<{ known: string | null }>("select to_regclass('installation') as known");
  if (!tables[0]?.known) return;
  const { rows } = await client.query<{ min_schema: number }>("select min_schema from installation");
  const least = rows[0]?.min_schema ?? 0;
  if (least <= knownSteps) return;
  const message = `this controller is too old for its database: it knows ${knownSteps} steps of the schema, and must know ${least}; install the new version`;
  throw new PitwallError("state", message, { reason: "SCHEMA_TOO_NEW" });
}

function isLockTimeout(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) {
    if (e instanceof LockWaitTimeoutException || ("code" in e && e.code === "55P03")) return true;
  }
  return false;
}
