// Who asked last that a VM end: null, it runs on as far as anybody has said.
import { Migration } from "@mikro-orm/migrations";

export class WhoAsked extends Migration {
  override up(): void {
    this.addSql("alter table vm add column asked jsonb");
  }
}
