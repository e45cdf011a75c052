// The table of flags against what the services read: a client must not import a service, so its source is read as text.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { serviceFlags, serviceNames } from "../src/launch/flags.ts";

const root = join(import.meta.dirname, "..", "..", "..");
const variables = (...path: string[]): string[] =>
  [...readFileSync(join(root, ...path), "utf8").matchAll(/^ {2}(PITWALL_[A-Z_]+):/gm)].map((match) => match[1] ?? "");
/** What several services spread into their own, and where it is. */
const shared = {
  imageSourceSettings: ["libs", "oci", "src", "config.ts"],
  issuerSettings: ["libs", "auth", "src", "issuer-settings.ts"],
  networkSchema: ["services", "node", "src", "network", "settings.ts"],
};

test.each(serviceNames)("each variable of the %s has a flag, and no other", (service) => {
  const own = ["services", service, "src", "config.ts"];
  const text = readFileSync(join(root, ...own), "utf8");
  const spread = Object.entries(shared).filter(([name]) => text.includes(`...${name},`));
  const read = [...variables(...own), ...spread.flatMap(([, path]) => variables(...path))];
  expect(read).toContain("PITWALL_STATE_DIR");
  expect(new Set<string | undefined>(serviceFlags[service].map(({ variable }) => variable))).toEqual(new Set(read));
});
