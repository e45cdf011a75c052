// The database: opened, migrated, read, and changed in transactions that may run side by side.
import {
  CheckConstraintViolationException,
  ConstraintViolationException,
  DeadlockException,
  DriverException,
  LockMode,
  MikroORM,
  UniqueConstraintViolationException,
  type EntityManager,
  type EntitySchema,
  type FilterQuery,
} from "@mikro-orm/postgresql";
import { backoff, PitwallError, systemClock } from "@pitwall/runtime";
import { entities } from "./entities.ts";
import { giveBackBroken } from "./give-back-broken.ts";
import { migrate } from "./migrate.ts";
import { migrations } from "./migrations/index.ts";
import { Turns } from "./turns.ts";

/** The rows as one reader, or one change, sees them. */
export type { EntityManager } from "@mikro-orm/postgresql";

const maxConnections = 16;
/** The others are for who only reads, or asks one statement. */
const maxChanges = 14;
/** For a new connection, and in the queue for one of those that there are. */
const connectionLimitMs = 20_000;
const maxTries = 8;
const firstRetryMs = 5;
const maxRetryMs = 200;

export interface ChangeOptions {
  /** Undoes everything once `work` has returned; the result is returned all the same. Default false. */
  readonly undo?: boolean;
}

/** Disposing it waits for changes that are under way, begins no others, and closes the connections. */
export interface Store extends AsyncDisposable {
  /** For reading; one per request. */
  read(): EntityManager;
  /**
   * Runs a change in a transaction of its own (READ COMMITTED: what is decided on must be locked). It is run anew, a bounded number of
   * times, when the database ends it to break a deadlock: what it does outside the database must bear that, or be given to `after`, which
   * is called once the transaction is on disk.
   */
  change<T>(work: (em: EntityManager, after: (then: () => void) => void) => Promise<T>, options?: ChangeOptions): Promise<T>;
  /** A change that is one statement: it is asked without a begin and a commit. Run anew as `change` is; the rows that it returns. */
  write<T extends object>(statement: string, values: readonly unknown[]): Promise<T[]>;
}

/**
 * Works as the role of `url`; the schema is changed as the role of `migratorUrl`, which gives the other what it needs and no more.
 * Throws `unavailable` when the database does not answer, `state` when it is of a newer version, or of an older one that the role may not
 * change. `steps` is what this version knows of the schema; fewer than all make the database of an older version.
 */
export async function openStore(url: string, steps = migrations, migratorUrl = url): Promise<Store> {
  const orm = await MikroORM.init({
    clientUrl: url,
    entities,
    pool: { min: 1, max: maxConnections },
    driverOptions: { connectionTimeoutMillis: connectionLimitMs, onPoolCreated: giveBackBroken },
    discovery: { warnWhenNoEntities: false },
    ensureDatabase: false,
    allowGlobalContext: false,
    logger: () => undefined,
  }).catch(unavailable);
  try {
    const [role]: { name: string }[] = await orm.em.fork().execute("select current_user as name");
    await migrate(migratorUrl, steps, role?.name ?? "");
  } catch (error) {
    await orm.close(true).catch(() => undefined);
    if (error instanceof PitwallError) throw error;
    unavailable(error);
  }
  const underWay = new Set<Promise<unknown>>();
  const turns = new Turns(maxChanges, connectionLimitMs);

  async function attempt<T>(work: (em: EntityManager, after: (then: () => void) => void) => Promise<T>, undo: boolean): Promise<T> {
    const later: (() => void)[] = [];
    const em = orm.em.fork();
    await em.begin().catch((cause: unknown) => {
      throw new PitwallError("unavailable", "the database does not answer, or has too much to do; try again", {
        reason: "DATABASE_UNAVAILABLE",
        cause,
      });
    });
    let result: T;
    try {
      result = await work(em, (then) => later.push(then));
      if (undo) {
        await em.flush();
        await em.rollback();
        return result;
      }
      await em.commit();
    } catch (error) {
      if (em.isInTransaction()) await em.rollback().catch(() => undefined); // the first error counts
      throw error;
    }
    for (const then of later) then();
    return result;
  }

  async function tried<T>(once: () => Promise<T>): Promise<T> {
    const wait = backoff(firstRetryMs, maxRetryMs);
    for (let tries = 1; ; tries++) {
      const trying = once();
      underWay.add(trying);
      try {
        return await trying;
      } catch (error) {
        if (!(error instanceof DeadlockException)) throw error;
        if (tries >= maxTries)
          throw new PitwallError("unavailable", "others change the same at this moment; try again", {
            reason: "CONTENTION",
            cause: error,
          });
      } finally {
        underWay.delete(trying);
      }
      await systemClock.sleep(firstRetryMs + wait.nextMs());
    }
  }

  return {
    read: () => orm.em.fork(),
    change: (work, { undo = false } = {}) => tried(() => turns.take(() => attempt(work, undo))),
    write: <T extends object>(statement: string, values: readonly unknown[]) =>
      tried(() => orm.em.fork().execute<T[]>(statement, [...values])),
    async [Symbol.asyncDispose]() {
      turns.end();
      await Promise.allSettled(underWay);
      await orm.close();
    },
  };
}

/** A row as it is now, until the end of the change nobody else's. Undefined: there is none. For VMs there is `lockVm`. */
export async function lockRow<T extends object>(
  em: EntityManager,
  entity: EntitySchema<T>,
  key: FilterQuery<NoInfer<T>>,
): Promise<T | undefined> {
  const row = await em.findOne(entity, key, { lockMode: LockMode.PESSIMISTIC_WRITE, refresh: true });
  return row ?? undefined;
}

/** The clock that all controllers have in common. */
export async function databaseNowMs(em: EntityManager): Promise<number> {
  const [row]: { now_ms: string }[] = await em.execute("select extract(epoch from now()) * 1000 as now_ms");
  return Math.floor(Number(row?.now_ms));
}

/** Whether a change failed because another row has its key. */
export function isKeyTaken(error: unknown, constraint?: string): boolean {
  return error instanceof UniqueConstraintViolationException && (constraint === undefined || names(error, constraint));
}

/** Whether a change failed because the database does not allow what it writes, whatever that is. */
export function isRefused(error: unknown): boolean {
  return error instanceof ConstraintViolationException;
}

/** Whether a change failed because the node that it chose is full. */
export function isNodeFull(error: unknown): boolean {
  return violationOf(error, "node_capacity") !== undefined;
}

/** What the database's own code said of a check that a change did not pass, if it was this one. */
export function violationOf(error: unknown, constraint: string): string | undefined {
  if (!(error instanceof CheckConstraintViolationException) || !names(error, constraint)) return undefined;
  return "detail" in error && typeof error.detail === "string" ? error.detail : "";
}

/** The driver hands on what the server said, which its types do not. */
function names(error: object, constraint: string): boolean {
  return "constraint" in error && error.constraint === constraint;
}

/** Whether the database did not answer: it is down, starts, stops, or has too much to do. Whether a change was made is then unknown. */
export function isDatabaseAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error ? String(error.code) : "";
  // Classes 08 (connection), 53 (resources) and 57 (operator intervention), the system's own words, and the driver's.
  if (/^(08|53|57)[0-9A-Z]{3}$/.test(code)) return true;
  if (error instanceof DriverException && /^E[A-Z]+$/.test(code)) return true;
  return /timeout exceeded when trying to connect|connection terminated|client has encountered a connection error/i.test(error.message);
}

function unavailable(cause: unknown): never {
  const said = cause instanceof Error ? cause.message || ("code" in cause ? String(cause.code) : cause.name) : String(cause);
  throw new PitwallError("unavailable", `the database cannot be used: ${said}`, { reason: "DATABASE_UNAVAILABLE", cause });
}
