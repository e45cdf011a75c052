// Whether the SSH library has its compiled cryptography (1.17, lib/protocol/crypto.js): without it bulk goes several times slower.
import { createRequire } from "node:module";

export function hasCompiledCryptography(): boolean {
  const known: unknown = createRequire(import.meta.url)("ssh2/lib/protocol/crypto.js");
  return typeof known === "object" && known !== null && Reflect.get(known, "bindingAvailable") === true;
}
