// What a controller says of itself to whoever balances load.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog, systemClock } from "@pitwall/runtime";
import { expect, test } from "vitest";
import { openHealth } from "../src/rpc/health.ts";
import { openEmbeddedPostgres } from "../src/store/embedded-postgres.ts";
import { openStore } from "../src/store/store.ts";

test("it serves while its database answers, and not when that is gone or when it stops", { timeout: 90_000 }, async () => {
  await using stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "pitwall-health-"));
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const database = await openEmbeddedPostgres(dir, process.env["PATH"] ?? "", silentLog);
  let isThere = true;
  stack.defer(async () => (isThere ? database[Symbol.asyncDispose]() : undefined));
  const store = stack.use(await openStore(database.url));
  let asked = 0;
  const ask = async (): Promise<void> => {
    await store.read().execute("select 1");
    asked++;
  };
  const health = stack.use(openHealth(() => store.read().execute("select 1"), systemClock, silentLog));
  const other = stack.use(openHealth(ask, systemClock, silentLog));
  const askedAgain = async (): Promise<void> => {
    const before = asked;
    await expect.poll(() => asked, { timeout: 20_000 }).toBeGreaterThan(before + 1); // what the one before said has been heard
  };
  await askedAgain();
  expect([health.state.getStatus(""), other.state.getStatus("")]).toEqual(["healthy", "healthy"]);
  other.stopping();
  await askedAgain();
  expect([health.state.getStatus(""), other.state.getStatus("")]).toEqual(["healthy", "unhealthy"]);
  isThere = false;
  await database[Symbol.asyncDispose]();
  await expect.poll(() => health.state.getStatus(""), { timeout: 20_000 }).toBe("unhealthy");
});
