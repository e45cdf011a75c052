// Which key the controllers of this database seal credentials with.
import { Migration } from "@mikro-orm/migrations";

export class SecretsKey extends Migration {
  override up(): void {
    this.addSql("alter table installation add column secrets_key_id text");
  }
}
