// --timeout, of every command that waits.
import { Option } from "commander";
import { parseDurationMs } from "./quantities.ts";

/** The option's value is in milliseconds. */
export function timeoutOption(says: string, defaultSeconds: number): Option {
  return new Option("--timeout <duration>", says).argParser(parseDurationMs).default(defaultSeconds * 1000, `${defaultSeconds}s`);
}
