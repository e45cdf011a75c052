// From where a node's newest session was opened: two agents that have one identity are told apart by it.
import { Migration } from "@mikro-orm/migrations";

export class SessionHosts extends Migration {
  override up(): void {
    this.addSql("alter table node_session add column host text");
  }
}
