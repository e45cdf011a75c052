// Whether the SSH library has its compiled cryptography (1.17, lib/protocol/crypto.js): without it bulk goes several times slower.
import { createRequire } from "node:module";
import type { Log } from "@pitwall/runtime";

function hasCompiledCryptography(): boolean {
  const known: unknown = createRequire(import.meta.url)("ssh2/lib/protocol/crypto.js");
  return typeof known === "object" && known !== null && Reflect.get(known, "bindingAvailable") === true;
}

/** Loudly: nobody looks for it in what is merely slow. */
export function warnOfSlowCryptography(log: Pick<Log, "warn">): void {
  if (hasCompiledCryptography()) return;
  log.warn("SSH runs several times slower than it could: its compiled cryptography is missing; see docs/ssh.md, Cryptography");
}
