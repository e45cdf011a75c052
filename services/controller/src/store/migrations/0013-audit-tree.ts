// The audit log's Merkle tree: a leaf for each entry, signed heads, and how far the tree has grown. Nothing in the log is ever changed.
import { Migration } from "@mikro-orm/migrations";

export class AuditTree extends Migration {
  override up(): void {
    this.addSql(`create table audit_leaf (
      index bigint primary key, seq bigint not null unique references audit_entry, leaf_hash bytea not null check (length(leaf_hash) = 32))`);
    this.addSql(`create table audit_head (
      size bigint primary key, root_hash bytea not null check (length(root_hash) = 32), time_ms bigint not null, signature bytea not null,
      public_key bytea not null)`);
    // One row. All entries at or below (txid, seq) are in the tree.
    this.addSql(`create table audit_tree (
      is_only boolean primary key default true check (is_only), size bigint not null, peaks bytea[] not null, txid xid8 not null,
      seq bigint not null)`);
    this.addSql("insert into audit_tree (size, peaks, txid, seq) values (0, '{}', '0', 0)");
    this.addSql("create index audit_entry_order on audit_entry (txid, seq)");
    this.addSql("create index audit_entry_project on audit_entry (project_id, seq)");
    this.addSql(`create function audit_is_append_only() returns trigger language plpgsql as $$
      begin raise exception 'the audit log is append-only' using errcode = 'insufficient_privilege'; end $$`);
    for (const table of ["audit_entry", "audit_leaf", "audit_head"]) {
      this.addSql(
        `create trigger ${table}_append_only before update or delete on ${table} for each row execute function audit_is_append_only()`,
      );
      this.addSql(
        `create trigger ${table}_not_emptied before truncate on ${table} for each statement execute function audit_is_append_only()`,
      );
    }
  }
}
