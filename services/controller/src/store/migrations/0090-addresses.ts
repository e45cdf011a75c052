// Addresses of VMs on their nodes' networks: given with the placement, at rest for a while once they are given up.
import { Migration } from "@mikro-orm/migrations";

/** For what others still send to who had it. */
const restSeconds = 60;

export class Addresses extends Migration {
  override up(): void {
    this.addSql(`create table node_subnet (
      node_id uuid primary key references node on delete cascade, network cidr not null, network6 cidr not null, latest inet not null)`);
    this.addSql(`create table address_rest (
      node_id uuid references node on delete cascade, address inet, until_time timestamptz not null, primary key (node_id, address))`);
    this.addSql("alter table vm add column address text, add column address6 text");
    this.addSql("create unique index vm_address on vm (node_id, address) where address is not null");
    // Without a subnet a node's VMs have none. The lock of the allocation comes first, as it does where many VMs are made together. The search
    // goes on behind the latest, so that none comes back soon.
    this.addSql(`create function vm_take_address() returns trigger language plpgsql as $$
      declare subnet node_subnet; first inet; last inet; candidate inet; tries bigint := 0;
      begin
        if tg_op = 'UPDATE' and new.node_id = old.node_id and new.address is not null then return new; end if;
        new.address := null;
        new.address6 := null;
        if not exists (select from node_subnet where node_id = new.node_id) then return new; end if;
        perform from node_allocation where node_id = new.node_id for no key update;
        select * into subnet from node_subnet where node_id = new.node_id for update;
        if not found then return new; end if;
        delete from address_rest where node_id = new.node_id and until_time <= now();
        first := host(subnet.network)::inet + 2;
        last := host(broadcast(subnet.network))::inet - 1;
        candidate := subnet.latest;
        loop
          candidate := candidate + 1;
          if candidate < first or candidate > last then candidate := first; end if;
          exit when not exists (select from vm where node_id = new.node_id and address = host(candidate))
            and not exists (select from address_rest where node_id = new.node_id and address = candidate);
          tries := tries + 1;
          if tries > last - first then
            raise exception 'the node has no address left' using errcode = 'check_violation', constraint = 'node_capacity';
          end if;
        end loop;
        update node_subnet set latest = candidate where node_id = new.node_id;
        new.address := host(candidate);
        new.address6 := host(host(subnet.network6)::inet + (candidate - '0.0.0.0'::inet));
        return new;
      end $$`);
    this.addSql(`create function vm_leave_address() returns trigger language plpgsql as $$
      begin
        insert into address_rest values (old.node_id, old.address::inet, now() + interval '${restSeconds} seconds')
          on conflict (node_id, address) do update set until_time = excluded.until_time;
        return null;
      end $$`);
    this.addSql(
      "create trigger vm_address_taken before insert or update of node_id, address on vm for each row execute function vm_take_address()",
    );
    this.addSql(`create trigger vm_address_moved after update of node_id, address on vm for each row
      when (old.address is not null and (old.node_id, old.address) is distinct from (new.node_id, new.address)) execute function vm_leave_address()`);
    this.addSql(
      "create trigger vm_address_left after delete on vm for each row when (old.address is not null) execute function vm_leave_address()",
    );
  }
}
