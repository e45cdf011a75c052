// Projects and their members; every VM belongs to one.
import { Migration } from "@mikro-orm/migrations";

export class Projects extends Migration {
  override up(): void {
    this.addSql(`create table project (
      id uuid primary key, name text not null unique, personal_of text unique,
      quota_vms int not null, quota_cpu_millis bigint not null, quota_mem_bytes bigint not null, quota_disk_bytes bigint not null,
      quota_addresses int not null, undelete_window_ms bigint not null default 0,
      create_time timestamptz not null, version bigint not null default 1)`);
    this.addSql(`create table project_member (
      project_id uuid not null references project on delete cascade, subject text not null,
      role text not null check (role in ('viewer', 'member', 'owner')), create_time timestamptz not null,
      primary key (project_id, subject))`);
    this.addSql("create index project_member_subject on project_member (subject)");
    // The name of a personal project is its user's where that is a name; nobody else has one yet.
    this.addSql(`insert into project
        (id, name, personal_of, quota_vms, quota_cpu_millis, quota_mem_bytes, quota_disk_bytes, quota_addresses, create_time)
      select gen_random_uuid(), case when owner ~ '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$' then owner else 'u-' || left(md5(owner), 12) end, owner,
        100, 64000, 274877906944, 4398046511104, 100, now()
      from (select distinct owner from vm union select distinct owner from ssh_key) as known`);
    this.addSql("insert into project_member (project_id, subject, role, create_time) select id, personal_of, 'owner', now() from project");
    this.addSql(`alter table vm add column project_id uuid references project, add column delete_protection boolean not null default false,
      add column expire_time timestamptz, add column delete_time timestamptz, add column purge_time timestamptz,
      add column restart_generation bigint not null default 0`);
    this.addSql("update vm set project_id = project.id from project where project.personal_of = vm.owner");
    this.addSql("alter table vm alter column project_id set not null, drop constraint vm_name");
    this.addSql("create unique index vm_name on vm (project_id, name) where delete_time is null");
  }
}
