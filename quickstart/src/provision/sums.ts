// Checksums of a folder in the cache, kept in the folder in the form of sha256sum(1).
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

const fileName = "SHA256SUMS";

/** Hex SHA-256 of a file. */
export async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

/** Writes the checksums of all files below `dir`. */
export async function writeSums(dir: string): Promise<void> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const names = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1));
  const lines: string[] = [];
  for (const name of names.toSorted()) lines.push(`${await sha256(join(dir, name))}  ${name}\n`);
  await writeFile(join(dir, fileName), lines.join(""));
}

/** Names of the files that are not what they were; undefined when there are no checksums to compare with. */
export async function damagedFiles(dir: string): Promise<string[] | undefined> {
  const text = await readFile(join(dir, fileName), "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  const damaged: string[] = [];
  for (const line of text.trim().split("\n")) {
    const [sum, name = ""] = line.split("  ");
    if ((await sha256(join(dir, name)).catch(() => "")) !== sum) damaged.push(name);
  }
  return damaged;
}
