// The last events of VMs that are gone, found by VM: whoever asks for one just after its end is told of it.
import { Migration } from "@mikro-orm/migrations";

export class LastWords extends Migration {
  override up(): void {
    this.addSql("alter table vm_event add column gone boolean not null default false");
    this.addSql("create index vm_event_gone on vm_event (vm_id) where gone");
  }
}
