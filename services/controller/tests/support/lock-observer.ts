// Looks at the database of an installation every few milliseconds: who locks whole tables for how long, and which nodes have no link.
import { systemClock } from "@pitwall/runtime";
import pg from "pg";

const everyMs = 20;

/** Times are those between the first and the last look that saw it, and so up to two looks short. */
export class LockObserver implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #clients: readonly pg.Client[];
  readonly #running: Promise<unknown>;
  /** Of exclusive locks, by table. */
  readonly longestLockMs = new Map<string, number>();
  longestUnlinkedMs = 0;
  looks = 0;

  private constructor(locks: pg.Client, sessions: pg.Client) {
    this.#clients = [locks, sessions];
    this.#running = Promise.all([this.#watchLocks(locks), this.#watchSessions(sessions)]);
  }

  static async open(url: string): Promise<LockObserver> {
    // The second waits where a table is locked, the first does not.
    const [locks, sessions] = [new pg.Client(url), new pg.Client(url)];
    await Promise.all([locks.connect(), sessions.connect()]);
    return new LockObserver(locks, sessions);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await Promise.all(this.#clients.map((client) => client.end()));
  }

  async #watchLocks(client: pg.Client): Promise<void> {
    const seen = openDurations();
    await this.#repeat(async () => {
      const { rows } = await client.query<{ holder: string; table: string }>(
        `select l.virtualtransaction as holder, c.relname as table from pg_locks l join pg_class c on c.oid = l.relation
         where l.database = (select oid from pg_database where datname = current_database())
           and l.mode = 'AccessExclusiveLock' and l.granted and c.relkind = 'r'`,
      );
      this.looks++;
      for (const [key, ms] of seen(rows.map(({ holder, table }) => `${holder} ${table}`))) {
        const [, table = ""] = key.split(" ");
        this.longestLockMs.set(table, Math.max(this.longestLockMs.get(table) ?? 0, ms));
      }
    });
  }

  async #watchSessions(client: pg.Client): Promise<void> {
    const seen = openDurations();
    await this.#repeat(async () => {
      const { rows } = await client.query<{ node: string }>("select node_id as node from node_session where end_time is not null");
      for (const [, ms] of seen(rows.map(({ node }) => node))) this.longestUnlinkedMs = Math.max(this.longestUnlinkedMs, ms);
    });
  }

  async #repeat(look: () => Promise<void>): Promise<void> {
    for (; !this.#stop.signal.aborted; await systemClock.sleep(everyMs)) await look();
  }
}

/** Of what each look sees: for how long that has been seen without a break. */
function openDurations(): (present: readonly string[]) => Map<string, number> {
  let since = new Map<string, number>();
  return (present) => {
    const nowMs = performance.now();
    since = new Map(present.map((key) => [key, since.get(key) ?? nowMs]));
    return new Map([...since].map(([key, fromMs]) => [key, nowMs - fromMs]));
  };
}
