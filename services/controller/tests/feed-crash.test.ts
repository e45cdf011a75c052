// A crash of the database under those who follow the events of VMs.
import { randomUUID } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { exists, silentLog } from "@pitwall/runtime";
import { expect, test } from "vitest";
import { signerOf } from "../src/mutation/signer.ts";
import { openEmbeddedPostgres } from "../src/store/embedded-postgres.ts";
import { openNotices } from "../src/store/notices.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { Feed } from "../src/vm/feed.ts";

/** The number of a transaction that is rolled back: nothing brings it to disk for so long. */
const settings = { wal_writer_delay: "10s" };

test("events whose transactions have numbers that were given before the crash are handed on", { timeout: 60_000 }, async () => {
  await using cleanUp = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "pitwall-feed-"));
  cleanUp.defer(() => rm(dir, { recursive: true, force: true }));
  const open = async (): Promise<string> => (await openEmbeddedPostgres(dir, process.env["PATH"] ?? "", silentLog, settings)).url;
  const url = await open();
  const store = await openStore(url);
  const notices = openNotices(url, silentLog);
  const feed = await Feed.open({ store, notices, signer: signerOf(new Uint8Array(32)), log: silentLog });
  const first = await writeEvent(store);
  const { signal } = new AbortController();
  await feed.caughtUp(signal);

  let given = 0n;
  for (let n = 0; n < 20; n++) given = await rolledBack(store);
  expect(given).toBeGreaterThan(first + 19n);
  await feed.caughtUp(signal);
  const { position } = feed;
  // One after the other: a store that is closed under a question may leave it without an answer.
  for (const one of [feed, notices, store]) await one[Symbol.asyncDispose]();
  await crash(dir);

  const after = await open();
  cleanUp.defer(() => crash(dir));
  await using again = await openStore(after);
  await using listening = openNotices(after, silentLog);
  const txid = await writeEvent(again);
  expect(txid).toBeLessThanOrEqual(given); // else the server has not given a number again, and nothing is shown here
  // One who comes back with what it was told before the crash.
  await using resumed = await Feed.open({ store: again, notices: listening, signer: signerOf(new Uint8Array(32)), log: silentLog });
  await resumed.caughtUp(signal);
  const missed: bigint[] = [];
  for await (const change of resumed.between(position, resumed.position)) missed.push(change.position.txid);
  expect(missed).toEqual([txid]);
});

/** The number of its transaction. */
async function writeEvent(store: Store): Promise<bigint> {
  return store.change(async (em) => {
    const [row]: { txid: string }[] = await em.execute(
      `insert into vm_event (vm_id, project_id, node_id, revision, tell_node, body) values (?, ?, ?, 1, false, ?) returning txid::text`,
      [randomUUID(), randomUUID(), randomUUID(), Buffer.from(Vm.encode(Vm.create()).finish())],
    );
    return BigInt(row?.txid ?? 0);
  });
}

async function rolledBack(store: Store): Promise<bigint> {
  const sentinel = new Error("rolled back");
  let txid = 0n;
  await store
    .change(async (em) => {
      const [row]: { txid: string }[] = await em.execute("select pg_current_xact_id()::text as txid");
      txid = BigInt(row?.txid ?? 0);
      throw sentinel;
    })
    .catch((error: unknown) => {
      if (error !== sentinel) throw error;
    });
  return txid;
}

/** Without a checkpoint, and without what is not on disk yet. */
async function crash(dir: string): Promise<void> {
  const file = join(dir, "data", "postmaster.pid");
  process.kill(Number((await readFile(file, "utf8")).split("\n", 1)[0]), "SIGQUIT");
  await expect.poll(() => exists(file), { timeout: 20_000 }).toBe(false);
}
