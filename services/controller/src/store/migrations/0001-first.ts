// Members, nodes, VMs, keys, remembered requests.
import { Migration } from "@mikro-orm/migrations";

export class First extends Migration {
  override up(): void {
    this.addSql(`create table member (
      id uuid primary key, role text not null check (role in ('node', 'gateway')), name text not null,
      create_time timestamptz not null, certificate_expire_time timestamptz not null, unique (role, name))`);
    this.addSql(`create table node (
      id uuid primary key references member, name text not null unique, session_epoch bigint not null default 0,
      cpu_millis bigint not null default 0, mem_bytes bigint not null default 0, disk_bytes bigint not null default 0,
      drivers jsonb not null default '[]', labels jsonb not null default '{}', agent_version text not null default '',
      create_time timestamptz not null, last_heartbeat_time timestamptz)`);
    this.addSql(`create table vm (
      id uuid primary key, name text not null, owner text not null, spec jsonb not null, image_digest text not null,
      desired int not null, generation bigint not null, observed_generation bigint not null, phase int not null,
      reason text not null, message text not null, node_id uuid not null references node, epoch bigint not null,
      ssh_host_key text not null, service_exit jsonb, timings jsonb not null,
      create_time timestamptz not null, update_time timestamptz not null, revision bigint not null,
      cpu_millis int not null check (cpu_millis > 0), mem_bytes bigint not null check (mem_bytes > 0), disk_bytes bigint not null check (disk_bytes > 0),
      constraint vm_name unique (owner, name))`);
    this.addSql("create index vm_node on vm (node_id)");
    this.addSql("create index vm_by_name on vm (name)");
    this.addSql(`create table join_token (
      digest text primary key, role text not null check (role in ('node', 'gateway')), name text not null,
      expire_time timestamptz not null, used_time timestamptz)`);
    this.addSql(
      "create table ssh_key (fingerprint text primary key, owner text not null, public_key text not null, create_time timestamptz not null)",
    );
    this.addSql("create index ssh_key_owner on ssh_key (owner)");
    this.addSql(`create table request (
      owner text not null, request_id uuid not null, method text not null, digest text not null, vm_id uuid not null,
      create_time timestamptz not null, primary key (owner, request_id))`);
    this.addSql("create sequence vm_revision");
  }
}
