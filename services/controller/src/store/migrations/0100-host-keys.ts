// Whether a VM's host key is what its placement began with.
import { Migration } from "@mikro-orm/migrations";

export class HostKeys extends Migration {
  override up(): void {
    // Of keys that have changed before this, nobody has kept which placement that was in: they count as what it began with.
    this.addSql("alter table vm add column ssh_host_key_changed boolean not null default false");
  }
}
