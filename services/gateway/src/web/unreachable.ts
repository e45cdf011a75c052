// What a user hears when an upstream connection breaks.
import { PitwallError } from "@pitwall/runtime";

export function unreachable(cause: unknown): PitwallError {
  return new PitwallError("unavailable", "the controller or the VM cannot be reached right now; try again", {
    reason: "UPSTREAM_UNREACHABLE",
    cause,
  });
}
