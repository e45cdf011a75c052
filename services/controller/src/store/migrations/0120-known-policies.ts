// Whether a VM's node knows that the VM may be rescheduled: only then is it certain to have ended it when its lease is over.
import { Migration } from "@mikro-orm/migrations";

export class KnownPolicies extends Migration {
  override up(): void {
    // The generation with which that was asked for of a VM that might run; 0: its node knew from the begin.
    this.addSql("alter table vm add column policy_generation bigint not null default 0");
  }
}
