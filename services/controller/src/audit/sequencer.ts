// Gives each entry of the audit log its place in the Merkle tree, and signs the tree's head.
//
// Any controller may do it: the row `audit_tree` is locked for as long as one does. Entries are taken in the order (txid, seq) and only
// below the horizon of transactions that still run, so that none can appear before one that has its place. In a database that was restored
// into another server, transaction numbers begin anew: what is left of before is taken first, and the order begins anew with them.
import type { KeyObject } from "node:crypto";
import { append, entryHash, rootOf, signHead, type Frontier, type Hash } from "@pitwall/audit";
import { sleepOrAbort, systemClock, type Log } from "@pitwall/runtime";
import type { EntityManager, Store } from "../store/store.ts";
import { entryColumns, toEntry, type EntryRow } from "./entry-row.ts";

const everyMs = 1_000;
const batchSize = 1_000;

interface TreeRow {
  readonly size: string;
  readonly peaks: Buffer[];
  readonly txid: string;
  readonly seq: string;
  /** The tree's last transaction is one that the server has not come to. */
  readonly is_restored: boolean;
}

interface NewRow extends EntryRow {
  readonly txid: string;
}

/** Works until it is disposed. */
export function startSequencer(store: Store, key: KeyObject, log: Log): AsyncDisposable {
  const stop = new AbortController();
  const running = (async () => {
    while (!stop.signal.aborted) {
      try {
        if ((await sequence(store, key)) === batchSize) continue;
      } catch (error) {
        log.warn("the audit log could not be sequenced; it is tried again", { error });
      }
      await sleepOrAbort(everyMs, stop.signal);
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
    },
  };
}

/** Takes the next entries into the tree; how many. The head is signed in the same transaction. */
async function sequence(store: Store, key: KeyObject): Promise<number> {
  return store.change(async (em) => {
    const [tree]: TreeRow[] = await em.execute(
      `select size, peaks, txid::text, seq, txid > pg_snapshot_xmax(pg_current_snapshot()) as is_restored
       from audit_tree for update skip locked`,
    );
    if (!tree) return 0;
    const rows = await nextRows(em, tree);
    const last = rows.at(-1);
    if (tree.is_restored && rows.length < batchSize) await em.execute("update audit_tree set txid = '0', seq = 0");
    else if (last && !tree.is_restored) await em.execute("update audit_tree set txid = ?::xid8, seq = ?", [last.txid, last.seq]);
    if (!last) return 0;
    let frontier: Frontier = { size: Number(tree.size), peaks: tree.peaks };
    const leaves: { index: number; seq: string; hash: Hash }[] = [];
    for (const row of rows) {
      const hash = entryHash(toEntry(row, frontier.size));
      leaves.push({ index: frontier.size, seq: row.seq, hash });
      frontier = append(frontier, hash);
    }
    await em.execute(
      `insert into audit_leaf (index, seq, leaf_hash) select (leaf->>'index')::bigint, (leaf->>'seq')::bigint, decode(leaf->>'hash', 'hex')
       from jsonb_array_elements(?::jsonb) as leaf`,
      [JSON.stringify(leaves.map(({ index, seq, hash }) => ({ index, seq, hash: hash.toString("hex") })))],
    );
    await em.execute(
      `update audit_tree set size = ?, peaks =
         (select coalesce(array_agg(decode(peak, 'hex') order by at), '{}') from jsonb_array_elements_text(?::jsonb) with ordinality as known (peak, at))`,
      [frontier.size, JSON.stringify(frontier.peaks.map((peak) => peak.toString("hex")))],
    );
    const head = signHead({ size: frontier.size, root: rootOf(frontier) }, systemClock.wallMs(), key);
    await em.execute("insert into audit_head (size, root_hash, time_ms, signature, public_key) values (?, ?, ?, ?, ?)", [
      ...[head.size, head.root, head.timeMs, head.signature, head.publicKey],
    ]);
    return rows.length;
  });
}

async function nextRows(em: EntityManager, { txid, seq, is_restored }: TreeRow): Promise<NewRow[]> {
  const select = `select ${entryColumns}, txid::text from audit_entry as entry
    where not exists (select from audit_leaf where audit_leaf.seq = entry.seq)`;
  if (is_restored) {
    return em.execute(`${select} and txid > pg_snapshot_xmax(pg_current_snapshot()) order by seq limit ?`, [batchSize]);
  }
  return em.execute(
    `${select} and (txid, seq) > (?::xid8, ?) and txid < pg_snapshot_xmin(pg_current_snapshot()) order by txid, seq limit ?`,
    [...[txid, seq, batchSize]],
  );
}
