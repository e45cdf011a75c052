// VMs that are being moved off a node that is drained.
import { Migration } from "@mikro-orm/migrations";

export class MovingVms extends Migration {
  override up(): void {
    // Set while the VM is stopped only in order to be started elsewhere.
    this.addSql("alter table vm add column moving boolean not null default false");
  }
}
