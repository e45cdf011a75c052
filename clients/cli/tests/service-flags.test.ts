// The table of flags against what the services read: a client must not import a service, so its source is read as text.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { serviceFlags, serviceNames } from "../src/launch/flags.ts";

const services = join(import.meta.dirname, "..", "..", "..", "services");

test.each(serviceNames)("each variable of the %s has a flag, and no other", (service) => {
  const source = readFileSync(join(services, service, "src", "config.ts"), "utf8");
  const read = [...source.matchAll(/^ {2}(PITWALL_[A-Z_]+):/gm)].map((match) => match[1]);
  expect(read).toContain("PITWALL_STATE_DIR");
  expect(new Set<string | undefined>(serviceFlags[service].map(({ variable }) => variable))).toEqual(new Set(read));
});
