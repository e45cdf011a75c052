import { expect, it } from "vitest";
import { Budget, defaultLimits } from "./limits.ts";
import { MergedTree } from "./merged-tree.ts";
import type { EntryType, TarEntry } from "./tar-header.ts";

type Line = readonly [type: EntryType, name: string, linkname?: string];
const limits = { ...defaultLimits, maxEntries: 1000, maxDepth: 16 };

const entryOf = ([type, name, linkname = ""]: Line, mode = 0o600): TarEntry => ({
  name,
  type,
  linkname,
  mode,
  uid: 0,
  gid: 0,
  mtime: 0,
  size: 0,
  devMajor: 0,
  devMinor: 0,
  xattrs: undefined,
});

/** Paths of the merged tree; a folder ends with a slash, a file says its layer and position. */
function merge(...layers: readonly (readonly Line[])[]): string[] {
  const tree = new MergedTree(new Budget(limits));
  for (const [layer, lines] of layers.entries())
    for (const [ordinal, line] of lines.entries()) tree.apply(entryOf(line), layer, { ordinal, offset: 0 });
  return [...tree.walk()]
    .filter(({ path }) => path !== "")
    .map(({ path, node }) => ("ordinal" in node ? `${path} ${node.layer}.${node.ordinal}` : `${path}/`));
}

it("puts an upper file over a lower one", () => {
  expect(merge([["file", "a"]], [["file", "a"]])).toEqual(["a 1.0"]);
});

it("keeps the last of two entries of one name", () => {
  expect(
    merge([
      ["file", "a"],
      ["file", "./a"],
    ]),
  ).toEqual(["a 0.1"]);
});

it("hides with a whiteout what is below, and not what its own layer holds, in either order", () => {
  expect(
    merge(
      [
        ["file", "a"],
        ["file", "b"],
      ],
      [["file", ".wh.a"]],
    ),
  ).toEqual(["b 0.1"]);
  expect(
    merge(
      [["file", "a"]],
      [
        ["file", ".wh.a"],
        ["file", "a"],
      ],
    ),
  ).toEqual(["a 1.1"]);
  expect(
    merge(
      [["file", "a"]],
      [
        ["file", "a"],
        ["file", ".wh.a"],
      ],
    ),
  ).toEqual(["a 1.0"]);
});

it("hides with an opaque mark what is below, and not what its own layer holds, in either order", () => {
  expect(
    merge(
      [["file", "d/a"]],
      [
        ["file", "d/b"],
        ["file", "d/.wh..wh..opq"],
      ],
    ),
  ).toEqual(["d/", "d/b 1.0"]);
  expect(
    merge(
      [["file", "d/a"]],
      [
        ["file", "d/.wh..wh..opq"],
        ["file", "d/b"],
      ],
    ),
  ).toEqual(["d/", "d/b 1.1"]);
});

it("ignores a whiteout of nothing", () => {
  expect(
    merge(
      [["file", "a"]],
      [
        ["file", "x/y/.wh.b"],
        ["file", "z/.wh..wh..opq"],
      ],
    ),
  ).toEqual(["a 0.0"]);
});

it.each(["..", ".", ""])("refuses a whiteout of %j", (name) => {
  expect(() => merge([["file", `d/.wh.${name}`]])).toThrow("a layer holds a whiteout of no file");
});

it("keeps the content of a hard link whose first name a higher layer replaces or hides", () => {
  expect(
    merge(
      [
        ["file", "a"],
        ["link", "b", "a"],
      ],
      [["file", "a"]],
    ),
  ).toEqual(["a 1.0", "b 0.0"]);
  expect(
    merge(
      [
        ["file", "a"],
        ["link", "b", "a"],
      ],
      [["file", ".wh.a"]],
    ),
  ).toEqual(["b 0.0"]);
});

it("links to a file of a lower layer as it is at that moment", () => {
  expect(merge([["file", "a"]], [["link", "b", "/a"]], [["file", "a"]])).toEqual(["a 2.0", "b 0.0"]);
});

it("links to a symbolic link itself, and through links in the folders above it", () => {
  expect(
    merge([
      ["file", "d/f"],
      ["symlink", "l", "d"],
      ["link", "hard", "l/f"],
      ["link", "soft", "l"],
    ]),
  ).toEqual(["d/", "d/f 0.0", "hard 0.0", "l 0.1", "soft 0.1"]);
});

it("refuses a hard link to what is not there or is a folder", () => {
  expect(() => merge([["link", "b", "../../etc/passwd"]])).toThrow('hard link "b" points at "../../etc/passwd", which is not there');
  expect(() =>
    merge([
      ["directory", "d"],
      ["link", "b", "d"],
    ]),
  ).toThrow('hard link "b" points at a folder');
});

it("follows links in folders, and never out of the tree", () => {
  expect(
    merge([
      ["symlink", "up", "../../.."],
      ["symlink", "abs", "/d"],
      ["directory", "d"],
      ["file", "up/a"],
      ["file", "abs/b"],
      ["file", "../../c"],
    ]),
  ).toEqual(["a 0.3", "abs 0.1", "c 0.5", "d/", "d/b 0.4", "up 0.0"]);
});

it("refuses links that lead in circles", () => {
  expect(() =>
    merge([
      ["symlink", "a", "b"],
      ["symlink", "b", "a"],
      ["file", "a/c"],
    ]),
  ).toThrow("a path goes through more than 40 symbolic links");
});

it("replaces a folder by a file and a file by a folder", () => {
  expect(merge([["file", "d/f"]], [["file", "d"]])).toEqual(["d 1.0"]);
  expect(
    merge(
      [["file", "d"]],
      [
        ["directory", "d"],
        ["file", "d/f"],
      ],
    ),
  ).toEqual(["d/", "d/f 1.1"]);
});

it("replaces a link to a folder by a folder", () => {
  expect(
    merge(
      [
        ["file", "d/f"],
        ["symlink", "l", "d"],
      ],
      [
        ["directory", "l"],
        ["file", "l/g"],
      ],
    ),
  ).toEqual(["d/", "d/f 0.0", "l/", "l/g 1.1"]);
});

it("keeps what is in a folder that a higher layer names again", () => {
  expect(
    merge(
      [
        ["directory", "d"],
        ["file", "d/f"],
      ],
      [["directory", "d"]],
    ),
  ).toEqual(["d/", "d/f 0.1"]);
});

it("takes names that JavaScript gives a meaning", () => {
  expect(
    merge([
      ["file", "__proto__"],
      ["file", "constructor/toString"],
    ]),
  ).toEqual(["__proto__ 0.0", "constructor/", "constructor/toString 0.1"]);
});

it("counts entries and the folders made for them", () => {
  expect(() => merge(Array.from({ length: 600 }, (_, at): Line => ["file", `d${at}/f`]))).toThrow(
    "the image has more than 1000 entries; use a smaller image",
  );
});

it("bounds depth, names and paths", () => {
  expect(() => merge([["file", `${"d/".repeat(20)}f`]])).toThrow("the image has folders more than 16 deep; use a smaller image");
  expect(() => merge([["file", "n".repeat(256)]])).toThrow("a layer holds a name of 256 bytes; the limit is 255");
  expect(() => merge([["directory", `${"n".repeat(256)}/d`]])).toThrow("a layer holds a name of 256 bytes; the limit is 255");
  expect(() => merge([["symlink", "l", "t".repeat(4097)]])).toThrow("a layer holds a path of more than 4096 bytes");
});

it("refuses what cannot be the root", () => {
  expect(() => merge([["symlink", "./", "/etc"]])).toThrow("a layer makes the root something else than a folder");
});
