// Wake-ups between controllers, by PostgreSQL's LISTEN and NOTIFY on a connection of its own.
//
// A notice says "look", never what is there: it is lost when nobody listens, so whoever relies on it looks now and then anyway.
// Notices are sent outside the transaction that they tell of, and several at once become one: a NOTIFY inside a transaction takes a lock
// of the whole server until its commit is on disk, and so makes all commits wait for each other.
import { backoff, sleepOrAbort, type Log } from "@pitwall/runtime";
import pg from "pg";

const firstReconnectMs = 100;
const maxReconnectMs = 5_000;

export type OnNotice = (isOwn: boolean) => void;

/** Disposing it closes the connection. */
export interface Notices extends AsyncDisposable {
  /**
   * Calls back for each notice of the channel, from any controller, and after a reconnect. `isOwn`: this one sent it. Returns how to stop.
   */
  listen(channel: string, onNotice: OnNotice): () => void;
  /** Tells all controllers, this one too. Never fails: the others look anyway. */
  send(channel: string): void;
}

export function openNotices(url: string, log: Log): Notices {
  const listeners = new Map<string, Set<OnNotice>>();
  const waiting = new Set<string>();
  const stop = new AbortController();
  let live: pg.Client | undefined;
  let isSending = false;

  const call = (channel: string, isOwn: boolean): void => {
    for (const onNotice of listeners.get(channel) ?? []) onNotice(isOwn);
  };

  /** Resolves when the connection has ended. */
  async function hold(onReady: () => void): Promise<void> {
    const client = new pg.Client({ connectionString: url, keepAlive: true, connectionTimeoutMillis: 5_000 });
    const ended = new Promise<void>((resolve) => {
      client.once("end", resolve).on("error", () => resolve());
    });
    let ownId: number | undefined;
    client.on("notification", ({ channel, processId }) => call(channel, processId === ownId));
    try {
      await client.connect();
      ownId = await backendId(client);
      for (const channel of listeners.keys()) await client.query(`listen ${pg.escapeIdentifier(channel)}`);
      live = client;
      onReady();
      for (const channel of listeners.keys()) call(channel, false);
      void flush();
      await Promise.race([ended, new Promise((resolve) => stop.signal.addEventListener("abort", resolve, { once: true }))]);
    } finally {
      live = undefined;
      await client.end().catch(() => undefined);
    }
  }

  async function run(): Promise<void> {
    const wait = backoff(firstReconnectMs, maxReconnectMs);
    while (!stop.signal.aborted) {
      try {
        await hold(() => wait.reset());
      } catch (error) {
        log.warn("the database sends no notices for now", { error });
      }
      if (!stop.signal.aborted) await sleepOrAbort(firstReconnectMs + wait.nextMs(), stop.signal);
    }
  }

  async function flush(): Promise<void> {
    if (isSending) return;
    isSending = true;
    try {
      while (live && waiting.size > 0) {
        const channels = [...waiting];
        waiting.clear();
        await live.query("select pg_notify(channel, '') from unnest($1::text[]) as channel", [channels]);
      }
    } catch {
      // The connection broke: after its reconnect everybody looks.
    } finally {
      isSending = false;
    }
  }

  const running = run();
  return {
    listen(channel, onNotice) {
      const known = listeners.get(channel) ?? new Set();
      if (known.size === 0) {
        listeners.set(channel, known);
        live?.query(`listen ${pg.escapeIdentifier(channel)}`).catch(() => undefined);
      }
      known.add(onNotice);
      return () => known.delete(onNotice);
    },
    send(channel) {
      waiting.add(channel);
      void flush();
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
    },
  };
}

async function backendId(client: pg.Client): Promise<number | undefined> {
  const { rows } = await client.query<{ id: number }>("select pg_backend_pid() as id");
  return rows[0]?.id;
}
