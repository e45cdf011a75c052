import { expect, it } from "vitest";
import { CertainFiles } from "./certain-files.ts";
import type { EntryType, TarEntry } from "./tar-header.ts";

const entry = (type: EntryType, name: string): TarEntry => ({
  name,
  type,
  linkname: "",
  mode: 0,
  uid: 0,
  gid: 0,
  mtime: 0,
  size: 0,
  devMajor: 0,
  devMinor: 0,
  xattrs: undefined,
});

/** Of the files `names`, those that are certain below layers that hold `above`. */
function certain(above: readonly TarEntry[], ...names: readonly string[]): string[] {
  const files = new CertainFiles();
  files.cover(above);
  return names.flatMap((name) => files.pathOf(entry("file", name)) ?? []);
}

it("is certain of what nothing above touches, under its clean name", () => {
  expect(certain([], "./a", "/b/c", "../d")).toEqual(["a", "b/c", "d"]);
});

it("is not certain of what is replaced, hidden or below either", () => {
  expect(certain([entry("file", "a"), entry("symlink", "b"), entry("file", "d/.wh.c")], "a", "a/x", "b/x", "d/c", "d/c/x", "d/e")).toEqual([
    "d/e",
  ]);
});

it("is not certain of anything in a folder that is opaque above", () => {
  expect(certain([entry("file", "d/.wh..wh..opq")], "d/a", "e")).toEqual(["e"]);
  expect(certain([entry("file", ".wh..wh..opq")], "d/a", "e")).toEqual([]);
});

it("is certain of what is in a folder that is named above, but not of a file in its place", () => {
  expect(certain([entry("directory", "d")], "d", "d/a")).toEqual(["d/a"]);
});

it("is certain of no folder, link, whiteout or way through a link", () => {
  const files = new CertainFiles();
  expect(["directory", "symlink", "link", "fifo"].map((type) => files.pathOf(entry(type as EntryType, "l")))).toEqual(
    Array(4).fill(undefined),
  ); // the words are entry types
  expect([".wh.a", "d/.wh..wh..opq", ".wh..wh.plnk/1", "l/a", "."].map((name) => files.pathOf(entry("file", name)))).toEqual(
    Array(5).fill(undefined),
  );
});
