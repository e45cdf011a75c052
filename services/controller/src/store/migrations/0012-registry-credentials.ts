// What projects sign in to registries with, sealed.
import { Migration } from "@mikro-orm/migrations";

export class RegistryCredentials extends Migration {
  override up(): void {
    this.addSql(`create table registry_credential (
      project_id uuid not null references project on delete cascade, registry text not null, username text not null,
      key_id text not null, box bytea not null, create_time timestamptz not null, update_time timestamptz not null,
      primary key (project_id, registry))`);
    this.addSql("create index registry_credential_key on registry_credential (key_id)");
  }
}
