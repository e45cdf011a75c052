// UUIDs, which are written in one way: in lower case.
import { invalid } from "./errors.ts";

export function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text);
}

/** Throws `invalid`, naming the field. */
export function checkUuid(text: string, field: string): void {
  if (!isUuid(text)) throw invalid(field, "must be a UUID in lower case");
}
