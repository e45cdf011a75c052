// Connections to the database that break in the hands of changes.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog, systemClock } from "@pitwall/runtime";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openEmbeddedPostgres } from "../src/store/embedded-postgres.ts";
import { openStore } from "../src/store/store.ts";

/** All that changes may have. */
const connections = 14;
/** Less than a store waits for a connection that nobody gives back. */
const promptMs = 10_000;

const cleanUp = new AsyncDisposableStack();
let url: string;

beforeAll(async () => {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-broken-"));
  cleanUp.defer(() => rm(dir, { recursive: true, force: true }));
  ({ url } = cleanUp.use(await openEmbeddedPostgres(dir, process.env["PATH"] ?? "", silentLog)));
}, 60_000);

afterAll(() => cleanUp.disposeAsync());

test.each([
  ["between its questions", false],
  ["amid a question", true],
])("a change whose connection breaks %s fails, and all others are served as before", { timeout: 60_000 }, async (_, isAsking) => {
  await using store = await openStore(url);
  const goOn = Promise.withResolvers<void>();
  let begun = 0;
  const broken = Array.from({ length: connections }, () =>
    store.change(async (em) => {
      await em.execute("select 1");
      begun++;
      if (isAsking) await em.execute("select pg_sleep(600)");
      await goOn.promise;
      await em.execute("select 1");
    }),
  );
  const ends = Promise.all(broken.map((change) => expect(change).rejects.toThrow(/terminat|connection error/)));
  await expect.poll(() => begun, { timeout: promptMs }).toBe(connections);
  expect(await endConnections()).toBeGreaterThanOrEqual(connections);
  goOn.resolve();
  await ends;
  const served = Array.from({ length: 2 * connections }, () => store.change((em) => em.execute("select 1 as one")));
  await expect(Promise.race([Promise.all(served), tooLate()])).resolves.toHaveLength(2 * connections);
});

/** As an administrator, or a failover, does; how many there were. */
async function endConnections(): Promise<number | null> {
  const client = new pg.Client(url);
  await client.connect();
  const ended = await client.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'",
  );
  await client.end();
  return ended.rowCount;
}

async function tooLate(): Promise<never> {
  await systemClock.sleep(promptMs);
  throw new Error(`changes were not served within ${promptMs} ms`);
}
