// What a journal's calls promise: what they have resolved for is there after a crash of the host. Looked at where it is asked of the kernel.
import { readlinkSync } from "node:fs";
import { mkdir, mkdtemp, open, readdir, readFile, rm, truncate, writeFile, type FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NodeLossPolicy } from "@pitwall/proto/pitwall/v1/vm.ts";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openJournalFiles } from "../src/host/journal-files.ts";
import { firstReport } from "../src/machine/reports.ts";
import { wanted } from "./support/lone-host.ts";

/** What was synced, in its order. */
const synced: string[] = [];
let root: string;
let restore: () => void;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "pitwall-journals-"));
  await using probe = await open(root, "r");
  const prototype = Object.getPrototypeOf(probe) as Pick<FileHandle, "sync">; // what all file handles have
  const { sync } = prototype;
  prototype.sync = async function (this: FileHandle): Promise<void> {
    synced.push(readlinkSync(`/proc/self/fd/${this.fd}`).replace(/\.[0-9a-f]+\.tmp$/, ".tmp"));
    await sync.call(this);
  };
  restore = () => Object.assign(prototype, { sync });
});

afterAll(async () => {
  restore();
  await rm(root, { recursive: true, force: true });
});

it("a journal is on disk before it has its name, its name after, and the name of its folder the first time; so is a removal", async () => {
  const journals = openJournalFiles(root);
  const assignment = wanted(NodeLossPolicy.NODE_LOSS_POLICY_HOLD);
  const { vmId } = assignment;
  const report = firstReport(assignment, 0);
  const entry = { assignment, report, process: undefined, booted: 0n, starting: false, bootId: "1" };
  const dir = journals.dirOf(vmId);
  await journals.write(vmId, entry);
  expect(synced.splice(0)).toEqual([join(dir, "vm.json.tmp"), dir, root]);
  await journals.write(vmId, entry);
  expect(synced.splice(0)).toEqual([join(dir, "vm.json.tmp"), dir]);
  await journals.remove(vmId);
  expect(synced.splice(0)).toEqual([root]);
});

it("a journal that cannot be written for the first time leaves no folder, one that is there stays as it was", async () => {
  const assignment = wanted(NodeLossPolicy.NODE_LOSS_POLICY_HOLD);
  const entry = { assignment, report: firstReport(assignment, 0), process: undefined, booted: 0n, starting: false, bootId: "1" };
  // The folder's path is as long as Linux takes one, and the file's is longer.
  let deep = await mkdtemp(join(root, "deep-"));
  const longest = 4_095 - assignment.vmId.length - 1;
  while (longest - deep.length > 1) deep = join(deep, "d".repeat(Math.min(200, longest - deep.length - 1)));
  await mkdir(deep, { recursive: true });
  await expect(openJournalFiles(deep).write(assignment.vmId, entry)).rejects.toThrow("ENAMETOOLONG");
  expect(await readdir(deep)).toEqual([]);
  await mkdir(join(deep, assignment.vmId));
  await expect(openJournalFiles(deep).write(assignment.vmId, entry)).rejects.toThrow("ENAMETOOLONG");
  expect(await readdir(deep)).toEqual([assignment.vmId]);
});

const other = "00000000-0000-4000-8000-00000000000f";

it.each<[string, (path: string) => Promise<void>]>([
  ["empty", async (path) => writeFile(path, "")],
  ["cut off", async (path) => truncate(path, 40)],
  ["of zeros", async (path) => writeFile(path, Buffer.alloc(300))],
  ["no journal", async (path) => writeFile(path, "[]")],
  ["of a later version", async (path) => writeFile(path, (await readFile(path, "utf8")).replace('"version":1', '"version":9'))],
  ["another VM's", async (path) => writeFile(path, (await readFile(path, "utf8")).replaceAll(/[0-9a-f-]{36}/g, other))],
  ["a folder", async (path) => rm(path).then(() => mkdir(path))],
])("a journal that is %s is named and left as it is, with all that the VM has; the others are read", async (_, damage) => {
  const all = await mkdtemp(join(root, "damaged-"));
  const journals = openJournalFiles(all);
  const [good, bad] = [wanted(NodeLossPolicy.NODE_LOSS_POLICY_HOLD), wanted(NodeLossPolicy.NODE_LOSS_POLICY_HOLD)];
  for (const assignment of [good, bad])
    await journals.write(assignment.vmId, {
      ...{ assignment, report: firstReport(assignment, 0), process: undefined, booted: 0n, starting: false, bootId: "1" },
    });
  await writeFile(join(journals.dirOf(bad.vmId), "disk.ext4"), "its disk");
  await damage(join(journals.dirOf(bad.vmId), "vm.json"));
  for (let start = 0; start < 2; start++) {
    const { entries, damaged } = await journals.readAll();
    expect(entries.map(({ assignment }) => assignment.vmId)).toEqual([good.vmId]);
    expect(damaged).toEqual([{ vmId: bad.vmId, error: expect.any(Error) as Error }]);
    expect(await readdir(journals.dirOf(bad.vmId))).toEqual(["disk.ext4", "vm.json"]);
  }
});
