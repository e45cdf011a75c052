// Names of VMs below the gateways' domain, and their ports that are open to everybody.
import { Migration } from "@mikro-orm/migrations";

export class Ingress extends Migration {
  override up(): void {
    this.addSql(`alter table vm add column host text, add column http_port int not null default 80,
      add column public_ports jsonb not null default '[]'`);
    this.addSql("create unique index vm_host on vm (host) where host is not null");
  }
}
