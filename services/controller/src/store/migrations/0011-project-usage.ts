// What each project takes, added up by the database, and refused there when it would be more than its quota.
import { Migration } from "@mikro-orm/migrations";

export class ProjectUsage extends Migration {
  override up(): void {
    this.addSql(`create table project_usage (
      project_id uuid primary key references project on delete cascade, vms int not null default 0, cpu_millis bigint not null default 0,
      mem_bytes bigint not null default 0, disk_bytes bigint not null default 0, addresses int not null default 0)`);
    // A stopped VM takes its disk and its address; one that can be brought back as well. What a node reports is true whatever the quota:
    // only what is asked for is refused.
    this.addSql(`create function vm_charge() returns trigger language plpgsql as $$
      declare was record; becomes record; u project_usage; p project; over json; asked boolean; n int := 0; disk bigint := 0;
      begin
        select 0::bigint as cpu, 0::bigint as mem into was;
        select 0::bigint as cpu, 0::bigint as mem into becomes;
        if tg_op <> 'INSERT' then select * into was from vm_takes(old); n := n - 1; disk := disk - old.disk_bytes; end if;
        if tg_op <> 'DELETE' then select * into becomes from vm_takes(new); n := n + 1; disk := disk + new.disk_bytes; end if;
        if n = 0 and was = becomes and disk = 0 then return null; end if;
        insert into project_usage as usage values (coalesce(new.project_id, old.project_id), n, becomes.cpu - was.cpu, becomes.mem - was.mem, disk, n)
          on conflict (project_id) do update set vms = usage.vms + excluded.vms, cpu_millis = usage.cpu_millis + excluded.cpu_millis,
            mem_bytes = usage.mem_bytes + excluded.mem_bytes, disk_bytes = usage.disk_bytes + excluded.disk_bytes,
            addresses = usage.addresses + excluded.addresses
          returning * into u;
        if tg_op = 'DELETE' then return null; end if;
        asked := tg_op = 'INSERT' or new.disk_bytes > old.disk_bytes or new.cpu_millis > old.cpu_millis or new.mem_bytes > old.mem_bytes
          or new.desired <> old.desired;
        if not asked or new.desired = 3 then return null; end if; -- a removal is never refused
        select * into p from project where id = u.project_id;
        select json_agg(json_build_object('resource', resource, 'limit', most, 'used', total - more, 'wanted', more)) into over
          from (values ('vms', p.quota_vms::bigint, u.vms::bigint, n::bigint), ('cpu_millis', p.quota_cpu_millis, u.cpu_millis, becomes.cpu - was.cpu),
              ('mem_bytes', p.quota_mem_bytes, u.mem_bytes, becomes.mem - was.mem), ('disk_bytes', p.quota_disk_bytes, u.disk_bytes, disk),
              ('addresses', p.quota_addresses, u.addresses, n)) as known (resource, most, total, more)
          where more > 0 and total > most;
        if over is not null then
          raise exception 'the quota is used up' using errcode = 'check_violation', constraint = 'project_quota',
            detail = json_build_object('project', p.id, 'name', p.name, 'over', over)::text;
        end if;
        return null;
      end $$`);
    // Its lock keeps VMs from being written until all are counted.
    this.addSql("create trigger vm_usage after insert or update or delete on vm for each row execute function vm_charge()");
    this.addSql(`insert into project_usage select project_id, count(*), sum((vm_takes(vm)).cpu), sum((vm_takes(vm)).mem), sum(disk_bytes), count(*)
      from vm group by project_id`);
  }
}
