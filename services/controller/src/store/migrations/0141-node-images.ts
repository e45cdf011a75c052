// Which images each node says that it holds: no row, it has said nothing.
import { Migration } from "@mikro-orm/migrations";

export class NodeImages extends Migration {
  override up(): void {
    this.addSql("create table node_images (node_id uuid primary key references node on delete cascade, digests jsonb not null)");
  }
}
