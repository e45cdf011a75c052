// Locks: VMs that nobody is let into, and users who are let into none.
import { Migration } from "@mikro-orm/migrations";

export class Locks extends Migration {
  override up(): void {
    this.addSql(`create table vm_lock (
      vm_id uuid primary key references vm on delete cascade, reason text not null, created_by text not null,
      create_time timestamptz not null default now())`);
    // A user need not have been here yet.
    this.addSql(`create table user_lock (
      subject text primary key, reason text not null, created_by text not null, create_time timestamptz not null default now())`);
  }
}
