// Names below the gateways' domain that a VM has given up: for a while they are to be had in its project alone.
import { Migration } from "@mikro-orm/migrations";

/** As docs/decisions/0015-ingress-hosts.md has it. */
const restDays = 90;

export class HostTombstones extends Migration {
  override up(): void {
    // Outlives its VM and its project: links, cookies and service workers do, too.
    this.addSql("create table host_tombstone (host text primary key, project_id uuid not null, until_time timestamptz not null)");
    this.addSql("create index host_tombstone_until_time on host_tombstone (until_time)");
    // After the row is written, so that whoever waited for the name, which somebody was giving up, sees that it rests.
    this.addSql(`create function vm_host_rests() returns trigger language plpgsql as $$
      begin
        if tg_op <> 'INSERT' and old.host is not null then
          insert into host_tombstone values (old.host, old.project_id, now() + interval '${restDays} days')
            on conflict (host) do update set project_id = excluded.project_id, until_time = excluded.until_time;
        end if;
        if tg_op <> 'DELETE' and new.host is not null
          and exists (select from host_tombstone where host = new.host and project_id <> new.project_id and until_time > now()) then
          raise exception 'the name rests' using errcode = 'unique_violation', constraint = 'vm_host';
        end if;
        return null;
      end $$`);
    this.addSql(`create trigger vm_host_freed after update of host on vm for each row when (old.host is distinct from new.host)
      execute function vm_host_rests()`);
    this.addSql(
      "create trigger vm_host_removed after delete on vm for each row when (old.host is not null) execute function vm_host_rests()",
    );
    this.addSql("create trigger vm_host_made after insert on vm for each row when (new.host is not null) execute function vm_host_rests()");
  }
}
