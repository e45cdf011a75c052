// The database: opened, migrated, and changed by one writer at a time.
import { MikroORM, UniqueConstraintViolationException, type EntityManager } from "@mikro-orm/postgresql";
import { Migrator } from "@mikro-orm/migrations";
import { PitwallError } from "@pitwall/runtime";
import { entities } from "./entities.ts";
import { migrate, patientSteps } from "./migrate.ts";
import { migrations } from "./migrations/index.ts";

/** The rows as one reader, or one change, sees them. */
export type { EntityManager } from "@mikro-orm/postgresql";

/** Disposing it closes the connections. */
export interface Store extends AsyncDisposable {
  /** For reading; one per request. */
  read(): EntityManager;
  /**
   * Runs a change in a transaction of its own. Changes run one after the other, so that revisions become visible in their order and
   * `after` is called in that order too, once the transaction is on disk.
   */
  change<T>(work: (em: EntityManager, after: (publish: () => void) => void) => Promise<T>): Promise<T>;
}

/**
 * Throws `unavailable` when the database does not answer, `state` when it is of a newer version. `steps` is what this version knows of the
 * schema; fewer than all make the database of an older version.
 */
export async function openStore(url: string, steps = migrations): Promise<Store> {
  const orm = await MikroORM.init({
    clientUrl: url,
    entities,
    extensions: [Migrator],
    migrations: {
      migrationsList: patientSteps(steps),
      tableName: "schema_migration",
      snapshot: false,
      transactional: true,
      allOrNothing: false,
    },
    pool: { min: 1, max: 12 },
    driverOptions: { connectionTimeoutMillis: 5_000 },
    discovery: { warnWhenNoEntities: false },
    ensureDatabase: false,
    allowGlobalContext: false,
    logger: () => undefined,
  }).catch(unavailable);
  try {
    await orm.em.fork().execute("select 1");
    await migrate(orm, url, steps.length);
  } catch (error) {
    await orm.close(true).catch(() => undefined);
    if (error instanceof PitwallError) throw error;
    unavailable(error);
  }
  let last: Promise<unknown> = Promise.resolve();
  return {
    read: () => orm.em.fork(),
    change(work) {
      const turn = last.then(async () => {
        const published: (() => void)[] = [];
        const result = await orm.em.fork().transactional((em) => work(em, (publish) => published.push(publish)));
        for (const publish of published) publish();
        return result;
      });
      last = turn.catch(() => undefined);
      return turn;
    },
    async [Symbol.asyncDispose]() {
      await last;
      await orm.close();
    },
  };
}

/** Whether a change failed because another row has its key. */
export function isKeyTaken(error: unknown): boolean {
  return error instanceof UniqueConstraintViolationException;
}

function unavailable(cause: unknown): never {
  const said = cause instanceof Error ? cause.message || ("code" in cause ? String(cause.code) : cause.name) : String(cause);
  throw new PitwallError("unavailable", `the database cannot be used: ${said}`, { reason: "DATABASE_UNAVAILABLE", cause });
}
