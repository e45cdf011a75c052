// NAME=VALUE, as --env and --label take it.
import { InvalidArgumentError } from "commander";

export type Pairs = Readonly<Record<string, string>>;

/** Adds one pair; a later one replaces an earlier one of that name. The value may be empty or hold `=`. Throws `InvalidArgumentError`. */
export function addPair(text: string, pairs: Pairs = {}): Pairs {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("Expected NAME=VALUE.");
  const added = new Map(Object.entries(pairs)).set(text.slice(0, at), text.slice(at + 1));
  return Object.fromEntries(added); // defines its properties, so that even `__proto__` is a name
}

/** Adds one item to an option that may be repeated. */
export function addItem(text: string, items: readonly string[] = []): readonly string[] {
  return [...items, text];
}
