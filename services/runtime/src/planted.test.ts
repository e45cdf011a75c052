import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { silentLog } from "./log.ts";
import { plantFrom, planted, plantedBugs } from "./planted.ts";

test("no bug is there unless it is planted, with leave", () => {
  const there = (): string[] => plantedBugs.filter(planted);
  plantFrom({}, silentLog);
  expect(there()).toEqual([]);
  expect(() => plantFrom({ PITWALL_PLANTED: "no-fsync" }, silentLog)).toThrow("allow it in a test with PITWALL_ALLOW_FAILPOINTS=1");
  expect(() => plantFrom({ PITWALL_PLANTED: "no-sync", PITWALL_ALLOW_FAILPOINTS: "1" }, silentLog)).toThrow('there is no bug "no-sync"');
  expect(there()).toEqual([]);
});

test("each bug stands somewhere in the sources, and is told of in its place", () => {
  const root = join(import.meta.dirname, "..", "..", "..");
  const sources = ["services", "libs"].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => /^[^/]+\/src\/.*(?<!\.test)\.ts$/.test(name))
      .map((name) => readFileSync(join(root, folder, name), "utf8")),
  );
  const standing = sources.flatMap((text) => [...text.matchAll(/\bplanted\("([a-z-]+)"\)/g)].map(([, bug]) => bug));
  expect(new Set(standing)).toEqual(new Set(plantedBugs));
  const docs = readFileSync(join(root, "docs/faults.md"), "utf8");
  expect([...docs.matchAll(/^\| (\d+) \| `([a-z-]+)` \|/gm)].map(([, number, bug]) => [Number(number), bug])).toEqual(
    plantedBugs.map((bug, index) => [index + 1, bug]),
  );
});
