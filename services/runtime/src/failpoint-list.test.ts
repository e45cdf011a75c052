import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { failpointList, isFailpoint, type FailpointName, type FailpointOwner } from "./failpoint-list.ts";

const root = join(import.meta.dirname, "..", "..", "..");
/** Of each program, what it is made of. */
const folders: Readonly<Record<FailpointOwner, readonly string[]>> = {
  controller: ["services/controller/src"],
  node: ["services/node/src", "libs/oci/src"],
  fence: ["guest/powerunit/fence"],
  gateway: ["services/gateway/src"],
  powerunit: ["guest/powerunit/main.go", "guest/powerunit/internal"],
};

/** Names that stand where a failpoint is passed; in TypeScript they are of a type that admits no other. */
function namesIn(path: string): string[] {
  const isFile = path.endsWith(".go");
  const files = isFile ? [path] : readdirSync(join(root, path), { recursive: true, encoding: "utf8" }).map((name) => join(path, name));
  return files
    .filter((name) => /\.(ts|go)$/.test(name) && !/[._]test\./.test(name))
    .flatMap((name) => readFileSync(join(root, name), "utf8").split("\n"))
    .filter((line) => /failpoint|#at\(|sending|send\(|place =|name ===/i.test(line) && !/^\s*(\/\/|\*)/.test(line))
    .flatMap((line) => [...line.matchAll(/"([a-z]+(?:\.[a-z]+)+)"/g)].map(([, name = ""]) => name));
}

const called = new Map(Object.entries(folders).map(([owner, its]) => [owner, new Set(its.flatMap(namesIn))]));
const names = Object.keys(failpointList) as FailpointName[]; // its own keys

test.each(names)("%s is passed by the program that it says, and by no other", (name) => {
  const passing = [...called].filter(([, its]) => its.has(name)).map(([owner]) => owner);
  expect(passing).toEqual([failpointList[name].owner]);
});

test("no place has a name that is not in the list", () => {
  expect([...called.values()].flatMap((its) => [...its]).filter((name) => !isFailpoint(name))).toEqual([]);
});

test("the list is the one that is documented", () => {
  const docs = readFileSync(join(root, "docs/faults.md"), "utf8");
  const told = [...docs.matchAll(/^\| `([a-z.]+)`(?: \(send\))? \| (controller|node|fence|gateway|powerunit) \|/gm)].map(
    ([, name, owner]) => [name, owner],
  );
  expect(told).toEqual(names.map((name) => [name, failpointList[name].owner]));
});
