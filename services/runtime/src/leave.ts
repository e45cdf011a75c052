// The leave to break a process on purpose.
import { PitwallError } from "./errors.ts";

/** Throws `invalid` unless the process may be broken on purpose; `variable` asks for that. */
export function requireLeave(env: NodeJS.ProcessEnv, variable: string): void {
  if (env["PITWALL_ALLOW_FAILPOINTS"] === "1") return;
  const message = `${variable} breaks this process on purpose: unset it, or allow it in a test with PITWALL_ALLOW_FAILPOINTS=1`;
  throw new PitwallError("invalid", message, { reason: "INVALID_CONFIG", field: variable });
}
