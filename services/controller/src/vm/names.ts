// Names of VMs: what is allowed, and one made up for who gives none.
import { randomInt } from "node:crypto";
import { invalid } from "@pitwall/runtime";

/** A DNS label, RFC 1035: it is the VM's host name. */
const pattern = /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/;
const adjectives = [
  "amber",
  "brisk",
  "calm",
  "deft",
  "early",
  "fleet",
  "glad",
  "handy",
  "ideal",
  "jolly",
  "keen",
  "lucid",
  "merry",
  "neat",
  "open",
  "plain",
];
const nouns = [
  "apex",
  "boost",
  "curve",
  "draft",
  "engine",
  "flag",
  "grid",
  "hairpin",
  "inlap",
  "jack",
  "kerb",
  "lap",
  "marshal",
  "nose",
  "outlap",
  "pit",
];

export function isName(name: string): boolean {
  return pattern.test(name);
}

/** Throws `invalid` naming the field. */
export function checkName(name: string, field = "name"): string {
  if (!isName(name)) {
    throw invalid(
      field,
      `must be 1 to 63 lower-case letters, digits and dashes, beginning with a letter and not ending with a dash, got ${JSON.stringify(name.slice(0, 80))}`,
    );
  }
  return name;
}

/** A VM's name is also an SSH user name at the gateway, where one is taken. Throws `invalid`. */
export function checkVmName(name: string): string {
  if (name === "jump") throw invalid("name", "jump is what `ssh -J` signs in as; choose another name");
  return checkName(name);
}

export function makeName(): string {
  const pick = (words: readonly string[]): string => words[randomInt(words.length)] ?? "vm";
  return `${pick(adjectives)}-${pick(nouns)}-${randomInt(1000, 10_000)}`;
}
