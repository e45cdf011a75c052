// What the contract has and this version does not do.
import { PitwallError } from "@pitwall/runtime";

/** Throws `unsupported`. */
export function notYet(): never {
  throw new PitwallError("unsupported", "this version of the controller does not do that yet", { reason: "NOT_IMPLEMENTED" });
}
