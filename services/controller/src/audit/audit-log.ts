// The audit log for those who read it: page by page, whole, and its signed heads.
import { keyIdOf } from "@pitwall/audit";
import type { AuditEntry, AuditHead } from "@pitwall/proto/pitwall/v1/audit.ts";
import { PitwallError } from "@pitwall/runtime";
import type { Principal } from "../projects/principal.ts";
import { reachProject } from "../projects/reach.ts";
import type { EntityManager, Store } from "../store/store.ts";
import { entryColumns, toEntry, type EntryRow } from "./entry-row.ts";
import { parseAuditFilter } from "./filter.ts";

const exportBatch = 500;

interface LeafRow extends EntryRow {
  readonly index: string;
  readonly leaf_hash: Buffer;
}

interface HeadRow {
  readonly size: string;
  readonly root_hash: Buffer;
  readonly time_ms: string;
  readonly signature: Buffer;
  readonly public_key: Buffer;
}

export class AuditLog {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /** Newest first; `before` is the index of the last one of the page before. Entries are there once they are in the tree, within seconds. */
  async list(
    caller: Principal,
    { project, filter, limit, before }: { project: string; filter: string; limit: number; before: bigint | undefined },
  ): Promise<AuditEntry[]> {
    const em = this.#store.read();
    const projectId = await this.#whose(em, caller, project);
    const conditions = parseAuditFilter(filter);
    const where = [
      ...(projectId === undefined ? [] : [{ sql: "entry.project_id = ?", value: projectId }]),
      ...(before === undefined ? [] : [{ sql: "audit_leaf.index < ?", value: String(before) }]),
      ...conditions,
    ];
    const rows: LeafRow[] = await em.execute(
      `select audit_leaf.index, audit_leaf.leaf_hash, ${entryColumns} from audit_leaf join audit_entry as entry on entry.seq = audit_leaf.seq
       ${where.length === 0 ? "" : `where ${where.map(({ sql }) => sql).join(" and ")}`} order by audit_leaf.index desc limit ?`,
      [...where.map(({ value }) => value), limit],
    );
    return rows.map(toWire);
  }

  /** Undefined: everything. */
  async #whose(em: EntityManager, caller: Principal, project: string): Promise<string | undefined> {
    if (project !== "-") return (await reachProject(em, caller, project, "owner")).project.id;
    if (!caller.isAdmin)
      throw new PitwallError("denied", "project: the whole log is for administrators", { reason: "NOT_ADMIN", field: "project" });
    return undefined;
  }

  /** The latest. Throws `state` while there is none. */
  async head(): Promise<AuditHead> {
    const head = await latestHead(this.#store.read());
    if (!head) throw new PitwallError("state", "the audit log is empty", { reason: "AUDIT_LOG_EMPTY" });
    return head;
  }

  /** All entries that the latest head covers, from an index on, then that head. */
  async *export(startIndex: bigint): AsyncGenerator<AuditEntry | { head: AuditHead }> {
    const head = await this.head();
    for (let from = startIndex; from < head.size;) {
      const rows: LeafRow[] = await this.#store.read().execute(
        `select audit_leaf.index, audit_leaf.leaf_hash, ${entryColumns} from audit_leaf join audit_entry as entry on entry.seq = audit_leaf.seq
         where audit_leaf.index >= ? and audit_leaf.index < ? order by audit_leaf.index limit ?`,
        [String(from), String(head.size), exportBatch],
      );
      for (const row of rows) yield toWire(row);
      const last = rows.at(-1);
      if (!last) break; // somebody took rows out: whoever verifies the export will see that
      from = BigInt(last.index) + 1n;
    }
    yield { head };
  }
}

async function latestHead(em: EntityManager): Promise<AuditHead | undefined> {
  const [row]: HeadRow[] = await em.execute(
    "select size, root_hash, time_ms, signature, public_key from audit_head order by size desc limit 1",
  );
  if (!row) return undefined;
  return {
    size: BigInt(row.size),
    rootHash: row.root_hash,
    time: new Date(Number(row.time_ms)),
    signature: row.signature,
    keyId: keyIdOf(row.public_key),
    publicKey: row.public_key,
  };
}

function toWire(row: LeafRow): AuditEntry {
  const { timeMs, ...rest } = toEntry(row, 0);
  return { ...rest, index: BigInt(row.index), time: new Date(timeMs), leafHash: row.leaf_hash };
}
