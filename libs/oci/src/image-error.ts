// The refusals that images share, so that each has one wording of its reason.
import { PitwallError } from "@pitwall/runtime";

/** An image document or layer that follows no known format. */
export function malformed(message: string, cause?: unknown): PitwallError {
  return new PitwallError("corrupt", message, { reason: "IMAGE_MALFORMED", cause });
}

/** Bytes that do not have the digest they are named by. */
export function digestMismatch(what: string, expected: string, got: string): PitwallError {
  return new PitwallError("corrupt", `${what} should have digest ${expected} but has ${got}; push or save the image again`, {
    reason: "IMAGE_DIGEST_MISMATCH",
  });
}

/** Fewer bytes than were promised. */
export function truncated(what: string, cause?: unknown): PitwallError {
  return new PitwallError("corrupt", `${what} ends too early; push or save the image again`, { reason: "IMAGE_TRUNCATED", cause });
}

/** A format that exists but is not taken. */
export function unsupported(message: string): PitwallError {
  return new PitwallError("unsupported", message, { reason: "IMAGE_UNSUPPORTED" });
}

/** No such image; `remedy` says what to check. */
export function imageNotFound(reference: string, remedy: string): PitwallError {
  return new PitwallError("not-found", `image ${reference} was not found; ${remedy}`, { reason: "IMAGE_NOT_FOUND" });
}
