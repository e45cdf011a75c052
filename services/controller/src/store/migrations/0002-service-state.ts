// How a VM's own process fares.
import { Migration } from "@mikro-orm/migrations";

export class ServiceState extends Migration {
  override up(): void {
    this.addSql("alter table vm add column restart_count int not null default 0, add column health int not null default 0");
  }
}
