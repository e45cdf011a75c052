// When something ends, as people write it.
import { InvalidArgumentError } from "commander";

const pattern = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?$/;

/** A day begins at midnight, UTC. Throws `InvalidArgumentError`. */
export function parseExpireTime(text: string): Date | "never" {
  if (text === "never") return "never";
  const time = new Date(text);
  if (!pattern.test(text) || Number.isNaN(time.getTime()))
    throw new InvalidArgumentError("Expected a time such as 2027-01-31 or 2027-01-31T12:00:00Z, or never.");
  return time;
}
