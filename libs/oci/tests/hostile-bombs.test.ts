// Small blobs that unpack to more than a host has: refused soon, in little memory, with the disk as it was.
import { execFile } from "node:child_process";
import { readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { maxRefusalMs } from "./support/outcome.ts";
import { scratch } from "./support/scratch.ts";

const run = promisify(execFile);
const program = fileURLToPath(new URL("support/bomb.ts", import.meta.url));
/** Above what the idle process has. */
const maxGrownBytes = 256 * 2 ** 20;

it.each([
  ["30 GiB of zeros in 30 MB of gzip", "gzip-file", /unpacks to more than 200 times its size/],
  ["30 GiB of zeros in 1 MB of zstd", "zstd-file", /unpacks to more than 200 times its size/],
  ["62 GiB of zeros after the end mark, gzip", "gzip-after-end", /unpacks to more than 200 times its size/],
  ["62 GiB of zeros after the end mark, zstd", "zstd-after-end", /unpacks to more than 200 times its size/],
  ["a million empty files", "million-files", /has more than 500000 entries/],
  ["a million devices", "million-devices", /has more than 500000 entries/],
  ["600,000 folders that 5,000 long names ask for", "million-folders", /has more than 500000 entries/],
  ["a gigabyte of attributes", "gigabyte-of-attributes", /has too many long names and attributes/],
])("refuses %s", async (_, kind, message) => {
  await using work = await scratch();
  const dir = join(work.dir, "layers");
  const { stdout } = await run(process.execPath, [program, kind, dir]);
  const outcome = JSON.parse(stdout) as { message: string; cpuMs: number; grownBytes: number }; // written by bomb.ts
  expect(outcome.message).toMatch(message);
  // Of all its threads together: at most that long on a clock, wherever it has a processor to itself.
  expect(outcome.cpuMs).toBeLessThan(maxRefusalMs);
  expect(outcome.grownBytes).toBeLessThan(maxGrownBytes);
  // A layer that is what it says may stay in the cache, which has its own bound.
  expect((await readdir(dir)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
});
