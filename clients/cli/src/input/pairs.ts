// NAME=VALUE, as --env and --label take it.
import { InvalidArgumentError } from "commander";

export type Pairs = Readonly<Record<string, string>>;

/** Adds one pair; a later one replaces an earlier one of that name. The value may be empty or hold `=`. Throws `InvalidArgumentError`. */
export function addPair(text: string, pairs: Pairs = {}): Pairs {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("Expected NAME=VALUE.");
  const name = text.slice(0, at);
  if (name === "__proto__") throw new InvalidArgumentError("__proto__ cannot be a name here."); // nor for the API
  return { ...pairs, [name]: text.slice(at + 1) };
}

/** Adds one item to an option that may be repeated. */
export function addItem(text: string, items: readonly string[] = []): readonly string[] {
  return [...items, text];
}
