// Ways into VMs that are open, so that their ends get an entry too.
import { Migration } from "@mikro-orm/migrations";

export class AccessSessions extends Migration {
  override up(): void {
    // Outlives its VM and its project: what was begun has an end.
    this.addSql(`create table access_session (
      id uuid primary key, gateway_id uuid not null, vm_id uuid not null, project_id uuid not null, actor text not null, subject text not null,
      detail jsonb not null, open_time timestamptz not null default now())`);
    this.addSql("create index access_session_gateway on access_session (gateway_id)");
  }
}
