// The key that signs SSH certificates: drawn from the CA's own, so that all controllers have the same one and nobody has to carry it around.
import { createPrivateKey, hkdfSync, type KeyObject } from "node:crypto";

const purpose = "pitwall ssh user authority 1";
const seedBytes = 32;
/** What stands before the seed in the PKCS#8 of an ed25519 key (RFC 8410, section 7). */
const pkcs8Head = Buffer.from("302e020100300506032b657004220420", "hex");

/** `caKey` is the CA's private key, PKCS#8. */
export function sshAuthority(caKey: ArrayBuffer): KeyObject {
  const seed = Buffer.from(hkdfSync("sha256", new Uint8Array(caKey), "", purpose, seedBytes));
  return createPrivateKey({ key: Buffer.concat([pkcs8Head, seed]), format: "der", type: "pkcs8" });
}
