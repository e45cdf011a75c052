// A suspended VM takes its disk only, as a stopped one does.
import { Migration } from "@mikro-orm/migrations";

export class SuspendedVms extends Migration {
  override up(): void {
    // No VM is suspended before this, so what is counted stays right.
    this.addSql(`create or replace function vm_takes(vm, out cpu bigint, out mem bigint) language sql immutable as $$
      select case when idle then 0 else $1.cpu_millis end, case when idle then 0 else $1.mem_bytes end
      from (select $1.desired = 2 and $1.phase in (11, 12) or $1.desired = 5 and $1.phase = 8 as idle) as known $$`);
  }
}
