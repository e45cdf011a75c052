// The disks of VMs, made with the host's own tools.
import { execFile } from "node:child_process";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { scratch } from "@pitwall/oci/tests/support/scratch.ts";
import { expect, it } from "vitest";
import { provideDisk } from "../src/host/disk.ts";

const run = promisify(execFile);
const diskBytes = 64 * 2 ** 20;

it("are whole, also the first ones of a node when they are made at the same time", async () => {
  await using work = await scratch();
  const disks = ["a", "b", "c", "d"].map((name) => join(work.dir, name));
  await Promise.all(disks.map((path) => provideDisk(path, diskBytes, join(work.dir, "cache"), true)));
  for (const path of disks) {
    expect((await stat(path)).size).toBe(diskBytes);
    await run("e2fsck", ["-fn", path]);
  }
  expect(await readdir(join(work.dir, "cache"))).toEqual([`disk-${diskBytes}.ext4`]);
});
