// A join token may say which labels the nodes have that it lets in.
import { Migration } from "@mikro-orm/migrations";

export class BoundLabels extends Migration {
  override up(): void {
    this.addSql("alter table join_token add column labels jsonb");
    this.addSql("alter table node add column bound_labels jsonb");
  }
}
