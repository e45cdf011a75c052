// A join token may let in several hosts.
import { Migration } from "@mikro-orm/migrations";

export class JoinTokenUses extends Migration {
  override up(): void {
    this.addSql("alter table join_token add column uses_left int not null default 1 check (uses_left >= 0)");
    this.addSql("update join_token set uses_left = 0 where used_time is not null");
  }
}
