// One CA for all controllers of a database: they share its folder, and one with another CA is turned away.
import { PitwallError } from "@pitwall/runtime";
import type { Store } from "../store/store.ts";
import { openCa, type Ca } from "./ca.ts";

/** Any number that no other lock has. */
const lockKey = 7_001_001;

/** Opens the CA below `dir`, or makes it if this is the first controller of its database. Throws `state` when the database has another one. */
export async function openInstallationCa(store: Store, dir: string): Promise<Ca> {
  return store.change(async (em) => {
    await em.execute("select pg_advisory_xact_lock(?)", [lockKey]); // two that start at once must not both make one
    const ca = await openCa(dir);
    const [row]: { ca_fingerprint: string | null }[] = await em.execute("select ca_fingerprint from installation");
    const known = row?.ca_fingerprint ?? undefined;
    if (known !== undefined && known !== ca.fingerprint) {
      const message =
        "the other controllers of this database have another certificate authority: give this one their folder in PITWALL_CA_DIR";
      throw new PitwallError("state", message, { reason: "CA_DIFFERS" });
    }
    if (known === undefined) await em.execute("update installation set ca_fingerprint = ?", [ca.fingerprint]);
    return ca;
  });
}
