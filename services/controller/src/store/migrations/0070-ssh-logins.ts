// As whom one may act inside a project's VMs, by role.
import { Migration } from "@mikro-orm/migrations";

export class SshLogins extends Migration {
  override up(): void {
    // A controller of the version before makes projects without saying anything of this.
    this.addSql(
      `alter table project add column member_logins jsonb not null default '["*"]', add column owner_logins jsonb not null default '["*"]'`,
    );
  }
}
