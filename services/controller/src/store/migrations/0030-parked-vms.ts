// VMs that a reconciler stumbled over, and those whose time is to come.
import { Migration } from "@mikro-orm/migrations";

export class ParkedVms extends Migration {
  override up(): void {
    this.addSql(`create table vm_parked (
      vm_id uuid primary key references vm on delete cascade, failures int not null, retry_time timestamptz not null, message text not null)`);
    this.addSql("create index vm_expire_time on vm (expire_time) where expire_time is not null");
    this.addSql("create index vm_purge_time on vm (purge_time) where purge_time is not null");
  }
}
