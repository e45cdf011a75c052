// Which controllers there are, which of them holds the link of which node, and what they must agree on.
import { Migration } from "@mikro-orm/migrations";

export class NodeSessions extends Migration {
  override up(): void {
    this.addSql(`create table controller (
      id uuid primary key, api_address text not null, link_address text not null,
      start_time timestamptz not null default now(), seen_time timestamptz not null default now())`);
    // A new session changes a key, so it waits for whoever has the row `for key share`: a write of the older session. Renewals, which
    // change no key, wait for nobody. Room is left on each page, so that they need no index entries.
    this.addSql(`create table node_session (
      node_id uuid primary key references node on delete cascade, epoch bigint not null,
      controller_id uuid not null, controller_address text not null, capability int not null,
      start_time timestamptz not null, renew_time timestamptz not null, lease_expire_time timestamptz not null,
      end_time timestamptz, end_reason text not null default '', lost_time timestamptz, change_time timestamptz not null default now(),
      constraint node_session_epoch unique (node_id, epoch)) with (fillfactor = 50)`);
    this.addSql("create index node_session_change on node_session (change_time)");
    this.addSql(`insert into node_session
        (node_id, epoch, controller_id, controller_address, capability, start_time, renew_time, lease_expire_time, end_time, end_reason)
      select id, session_epoch, '00000000-0000-0000-0000-000000000000', '', 0, now(), coalesce(last_heartbeat_time, now()),
        now() + interval '10 seconds', now(), 'upgrade'
      from node where session_epoch > 0`);
    this.addSql(`alter table node add column cordoned boolean not null default false, add column draining boolean not null default false,
      add column change_time timestamptz not null default now()`);
    this.addSql("create index node_change on node (change_time)");
    // What all controllers of one database must agree on. `min_schema`: the least number of migrations that a controller must know of.
    this.addSql(`create table installation (
      only_one boolean primary key default true check (only_one), ca_fingerprint text, min_schema int not null default 0)`);
    this.addSql("insert into installation default values");
  }
}
