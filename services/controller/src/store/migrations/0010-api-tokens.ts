// API tokens. A token ends with the membership of whoever made it.
import { Migration } from "@mikro-orm/migrations";

export class ApiTokens extends Migration {
  override up(): void {
    this.addSql(`create table api_token (
      id text primary key, project_id uuid not null, description text not null,
      role text not null check (role in ('viewer', 'member', 'owner')), methods jsonb not null default '[]',
      digest text not null check (digest ~ '^[0-9a-f]{64}$'), created_by text not null,
      create_time timestamptz not null, expire_time timestamptz not null, last_used_time timestamptz,
      foreign key (project_id, created_by) references project_member (project_id, subject) on delete cascade)`);
    this.addSql("create index api_token_project on api_token (project_id, id)");
    this.addSql("create index api_token_maker on api_token (created_by)");
  }
}
