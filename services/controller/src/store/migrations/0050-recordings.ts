// Recordings of sessions, in parts as gateways send them; projects that demand them; sessions that somebody has ended.
import { Migration } from "@mikro-orm/migrations";

export class Recordings extends Migration {
  override up(): void {
    // Outlives its VM, not its project.
    this.addSql(`create table recording (
      id uuid primary key, session_id uuid not null, gateway_id uuid not null, project_id uuid not null references project on delete cascade,
      vm_id uuid not null, vm_name text not null, actor text not null, subject text not null, ssh_user text not null, command text not null,
      has_terminal boolean not null, state text not null default 'live' check (state in ('live', 'ended', 'cut')),
      ending text not null default '', parts integer not null default 0, bytes bigint not null default 0,
      open_time timestamptz not null default now(), update_time timestamptz not null default now())`);
    this.addSql("create index recording_project on recording (project_id, open_time desc, id)");
    this.addSql("create index recording_open_time on recording (open_time)");
    this.addSql("create index recording_live on recording (gateway_id, session_id) where state = 'live'");
    this.addSql(`create table recording_part (
      recording_id uuid not null references recording on delete cascade, part integer not null, data bytea not null,
      primary key (recording_id, part))`);
    this.addSql("alter table project add column record_sessions boolean not null default false");
    this.addSql("alter table access_session add column ending boolean not null default false");
    this.addSql("create index access_session_project on access_session (project_id, id)");
  }
}
