// A node whose certificate is refused, though it has not run out.
import { Migration } from "@mikro-orm/migrations";

export class RevokedNodes extends Migration {
  override up(): void {
    this.addSql("alter table node add column revoke_time timestamptz");
  }
}
