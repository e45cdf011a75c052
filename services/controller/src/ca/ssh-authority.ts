// The keys that sign SSH certificates: drawn from the CA's own, so that all controllers have the same ones and nobody has to carry them around.
import { createHash, createPrivateKey, hkdfSync, type KeyObject } from "node:crypto";

const userPurpose = "pitwall ssh user authority 1";
const hostPurpose = "pitwall ssh host authority 1 of ";
const seedBytes = 32;
/** What stands before the seed in the PKCS#8 of an ed25519 key (RFC 8410, section 7). */
const pkcs8Head = Buffer.from("302e020100300506032b657004220420", "hex");

/** Signs certificates of users. `caKey` is the CA's private key, PKCS#8. */
export function sshAuthority(caKey: ArrayBuffer): KeyObject {
  return drawn(caKey, userPurpose);
}

/** Signs certificates of hosts for one user, `subject`: what a VM is called is that user's alone to say (docs/decisions/0019). */
export function sshHostAuthority(caKey: ArrayBuffer, subject: string): KeyObject {
  // A label has 1,024 bytes at most, and an issuer may call somebody whatever it likes.
  return drawn(caKey, `${hostPurpose}${createHash("sha256").update(subject).digest("hex")}`);
}

function drawn(caKey: ArrayBuffer, purpose: string): KeyObject {
  const seed = Buffer.from(hkdfSync("sha256", new Uint8Array(caKey), "", purpose, seedBytes));
  return createPrivateKey({ key: Buffer.concat([pkcs8Head, seed]), format: "der", type: "pkcs8" });
}
