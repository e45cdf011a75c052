// One key that seals for all controllers of a database: one that could not open what the others seal is turned away.
import { PitwallError } from "@pitwall/runtime";
import type { Store } from "../store/store.ts";
import type { SecretBox } from "./secret-box.ts";

/** Any number that no other lock has. */
const lockKey = 7_001_002;

/**
 * Throws `state` unless the box opens what the controller that started last seals. From then on the others must open what this one seals:
 * keys are changed by adding the new one everywhere first (docs/operate.md).
 */
export async function holdToInstallationKey(store: Store, box: Pick<SecretBox, "keyId" | "olderKeyIds">): Promise<void> {
  await store.change(async (em) => {
    await em.execute("select pg_advisory_xact_lock(?)", [lockKey]); // two that start at once must not both be the first
    const [row]: { secrets_key_id: string | null }[] = await em.execute("select secrets_key_id from installation");
    const known = row?.secrets_key_id ?? undefined;
    if (known !== undefined && known !== box.keyId && !box.olderKeyIds.includes(known)) {
      const message = `the credentials in this database are sealed with the key ${known}, which is not in this controller's key file: give it the secrets.key of the other controllers`;
      throw new PitwallError("state", message, { reason: "SECRETS_KEY_DIFFERS" });
    }
    if (known !== box.keyId) await em.execute("update installation set secrets_key_id = ?", [box.keyId]);
  });
}
