// What every change leaves behind: an event, an entry of the audit log, a remembered answer, and what its VM takes of its node.
import { Migration } from "@mikro-orm/migrations";

export class Mutations extends Migration {
  override up(): void {
    // The order of events is (txid, seq): see docs/decisions/0010-events-by-horizon.md.
    this.addSql(`create table vm_event (
      seq bigserial, txid xid8 not null default pg_current_xact_id(), create_time timestamptz not null default now(),
      vm_id uuid not null, project_id uuid not null, node_id uuid not null, revision bigint not null, tell_node boolean not null,
      body bytea not null, primary key (txid, seq))`);
    this.addSql("create table vm_event_floor (txid xid8 not null, seq bigint not null)");
    this.addSql("insert into vm_event_floor values ('0', 0)");
    this.addSql(`create table audit_entry (
      seq bigserial primary key, txid xid8 not null default pg_current_xact_id(), time timestamptz not null default now(),
      actor text not null, subject text not null, action text not null, project_id uuid, object text not null,
      detail jsonb not null, request_id uuid, generation bigint not null default 0)`);
    // Rows of the version before have no answer; new ones need no VM.
    this.addSql("alter table request add column answer bytea, alter column vm_id drop not null");
    this.addSql("create index request_create_time on request (create_time)");
    this.addSql("create table signing_key (name text primary key, secret bytea not null)");

    this.addSql(`create table node_allocation (
      node_id uuid primary key references node on delete cascade, vm_count int not null default 0,
      cpu_millis bigint not null default 0, mem_bytes bigint not null default 0, disk_bytes bigint not null default 0)`);
    this.addSql(`create function vm_takes(vm, out cpu bigint, out mem bigint) language sql immutable as $$
      select case when idle then 0 else $1.cpu_millis end, case when idle then 0 else $1.mem_bytes end
      from (select $1.desired = 2 and $1.phase in (11, 12) as idle) as known $$`);
    this.addSql(`create function vm_allocate() returns trigger language plpgsql as $$
      declare was record; becomes record; grows boolean;
      begin
        select 0::bigint as cpu, 0::bigint as mem into was;
        if tg_op <> 'INSERT' then select * into was from vm_takes(old); end if;
        if tg_op <> 'DELETE' then select * into becomes from vm_takes(new); end if;
        if tg_op = 'UPDATE' and new.node_id = old.node_id then
          if was = becomes and new.disk_bytes = old.disk_bytes then return null; end if;
          update node_allocation set cpu_millis = cpu_millis + becomes.cpu - was.cpu, mem_bytes = mem_bytes + becomes.mem - was.mem,
            disk_bytes = disk_bytes + new.disk_bytes - old.disk_bytes where node_id = new.node_id;
        else
          if tg_op <> 'INSERT' then
            update node_allocation set vm_count = vm_count - 1, cpu_millis = cpu_millis - was.cpu, mem_bytes = mem_bytes - was.mem,
              disk_bytes = disk_bytes - old.disk_bytes where node_id = old.node_id;
          end if;
          if tg_op = 'DELETE' then return null; end if;
          insert into node_allocation as a values (new.node_id, 1, becomes.cpu, becomes.mem, new.disk_bytes)
            on conflict (node_id) do update set vm_count = a.vm_count + 1, cpu_millis = a.cpu_millis + excluded.cpu_millis,
              mem_bytes = a.mem_bytes + excluded.mem_bytes, disk_bytes = a.disk_bytes + excluded.disk_bytes;
        end if;
        -- What a node reports is true whatever fits; what is asked for must fit. Nothing else than growth is refused: a node may come
        -- back with less than its VMs take.
        grows := new.desired <> 3 and (tg_op = 'INSERT' or new.node_id <> old.node_id or new.disk_bytes > old.disk_bytes
          or (becomes.cpu > was.cpu or becomes.mem > was.mem)
            and (new.desired <> old.desired or new.cpu_millis > old.cpu_millis or new.mem_bytes > old.mem_bytes));
        if grows and not exists (select from node_allocation a join node n on n.id = a.node_id where n.id = new.node_id
            and a.cpu_millis <= n.cpu_millis and a.mem_bytes <= n.mem_bytes and a.disk_bytes <= n.disk_bytes) then
          raise exception 'the node has no room' using errcode = 'check_violation', constraint = 'node_capacity';
        end if;
        return null;
      end $$`);
    // Its lock keeps VMs from being written until all are counted.
    this.addSql("create trigger vm_allocation after insert or update or delete on vm for each row execute function vm_allocate()");
    this.addSql(`insert into node_allocation select node_id, count(*), sum((vm_takes(vm)).cpu), sum((vm_takes(vm)).mem), sum(disk_bytes)
      from vm group by node_id`);
  }
}
