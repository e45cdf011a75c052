// The key that signs grants for ports of VMs: drawn from the CA's own, so that all controllers have the same one and nobody has to carry it around.
import { hkdfSync } from "node:crypto";

const purpose = "pitwall ingress grants 1";
const keyBytes = 32;

/** `caKey` is the CA's private key, PKCS#8. */
export function ingressKey(caKey: ArrayBuffer): Buffer {
  return Buffer.from(hkdfSync("sha256", new Uint8Array(caKey), "", purpose, keyBytes));
}
