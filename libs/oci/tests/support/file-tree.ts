// A folder on disk as lines that can be compared: every name, attribute and byte.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { lstat, readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** One line per entry, by path; names are latin1 (one character per byte). `links` groups the paths of one file. */
export async function treeOf(root: string): Promise<Map<string, string>> {
  const attributes = await attributesOf(root);
  const lines = new Map<string, string>();
  const firstPath = new Map<number, string>();
  const pending = [""];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const full = Buffer.from(join(root, path), "latin1");
    const info = await lstat(full);
    const facts: Record<string, unknown> = { mode: (info.mode & 0o7777).toString(8), owner: `${info.uid}:${info.gid}` };
    if (info.isDirectory()) {
      facts["type"] = "directory";
      const names = (await readdir(full, { encoding: "buffer" })).map((name) => name.toString("latin1"));
      pending.push(
        ...names
          .toSorted()
          .toReversed()
          .map((name) => (path === "" ? name : `${path}/${name}`)),
      );
    } else if (info.isSymbolicLink()) {
      // The mode of a link means nothing.
      lines.set(
        path,
        JSON.stringify({
          type: "symlink",
          owner: facts["owner"],
          mtime: Math.floor(info.mtimeMs / 1000),
          to: (await readlink(full, { encoding: "buffer" })).toString("latin1"),
        }),
      );
      continue;
    } else if (info.isFile()) {
      const first = firstPath.get(info.ino);
      if (first === undefined) firstPath.set(info.ino, path);
      Object.assign(facts, {
        type: "file",
        mtime: Math.floor(info.mtimeMs / 1000),
        sha256: createHash("sha256")
          .update(await readFile(full))
          .digest("hex"),
        size: info.size,
        linkOf: first,
      });
    } else
      Object.assign(facts, {
        type: info.isFIFO() ? "fifo" : info.isBlockDevice() ? "block" : "character",
        rdev: info.rdev,
        mtime: Math.floor(info.mtimeMs / 1000),
      });
    const xattrs = attributes.get(path);
    lines.set(path, JSON.stringify({ ...facts, xattrs }));
  }
  return lines;
}

/** Attributes by path, as getfattr prints them. */
async function attributesOf(root: string): Promise<Map<string, string[]>> {
  const { stdout } = await run("getfattr", ["-R", "-h", "-P", "-d", "-m", "-", "-e", "hex", "."], {
    cwd: root,
    encoding: "latin1",
    maxBuffer: 2 ** 28,
  }).catch(unreadable);
  const found = new Map<string, string[]>();
  for (const paragraph of stdout.split("\n\n")) {
    const [first, ...values] = paragraph.split("\n").filter((line) => line !== "");
    if (first === undefined) continue;
    const path = unescape(first.replace(/^# file: /, "")).replace(/^\.\/?/, "");
    found.set(path, values.filter((line) => !line.startsWith("security.selinux")).toSorted());
  }
  return found;
}

const unreadable = (error: unknown): never => {
  throw new Error("getfattr failed", { cause: error });
};

/** getfattr writes special bytes as `\ooo`. */
const unescape = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

/** Lines that differ, for a person. */
export function differences(theirs: ReadonlyMap<string, string>, ours: ReadonlyMap<string, string>): string[] {
  const found: string[] = [];
  for (const path of new Set([...theirs.keys(), ...ours.keys()])) {
    if (theirs.get(path) === ours.get(path)) continue;
    found.push(`${JSON.stringify(path)}\n  umoci: ${theirs.get(path) ?? "-"}\n  ours:  ${ours.get(path) ?? "-"}`);
  }
  return found;
}
